#include "io/step_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "io/row_parts.h"

namespace mixserve::io {
namespace {

template <class Value>
Spread spread_of(std::span<const PhaseSeconds> ranks, const Value& value_of) {
    Spread spread;
    spread.min = spread.max = value_of(ranks.front());
    for (const PhaseSeconds& rank : ranks) {
        const double value = value_of(rank);
        spread.min = std::min(spread.min, value);
        spread.max = std::max(spread.max, value);
        spread.mean += value / static_cast<double>(ranks.size());
    }
    return spread;
}

// A line is put together here, since there is one for every step: a tree of JSON values costs more than the
// rest of the step loop.
using Line = fmt::memory_buffer;

template <class... Values>
void put(Line& line, fmt::format_string<Values...> text, Values&&... values) {
    fmt::format_to(fmt::appender(line), text, std::forward<Values>(values)...);
}

void put_spread(Line& line, std::string_view key, const Spread& spread) {
    put(line, R"("{}":{{"min_ms":{},"mean_ms":{},"max_ms":{}}})", key, rounded_ms(spread.min * 1e3),
        rounded_ms(spread.mean * 1e3), rounded_ms(spread.max * 1e3));
}

void put_record(Line& line, const StepRecord& r) {
    put(line, R"({{"step":{},"time_s":{},"duration_ms":{},"prefill_tokens":{},"decode_tokens":{},)", r.step,
        rounded_s(r.time_s), rounded_ms(r.duration_s * 1e3), r.n_prefill, r.n_decode);
    put(line, R"("running":{},"waiting":{},"kv_blocks_used":{},"kv_blocks_total":{},"phases":{{)",
        r.n_running, r.n_waiting, r.kv_blocks_used, r.kv_blocks_total);
    bool is_first = true;
    for (size_t phase = 0; phase < n_phases; ++phase) {
        const Spread& spread = r.phases[phase];
        if (spread.max <= 0) continue;
        if (!std::exchange(is_first, false)) put(line, ",");
        put_spread(line, name(static_cast<Phase>(phase)), spread);
    }
    put(line, "}},");
    put_spread(line, "busy", r.busy);
    put(line, R"(,"slowest_rank":{})", r.slowest_rank);
    if (r.expert_load) put(line, R"(,"expert_load":{})", to_json(*r.expert_load).dump());
    put(line, "}}\n");
}

}  // namespace

double busy_of(const PhaseSeconds& rank) {
    return std::accumulate(rank.begin(), rank.end(), 0.0) - rank[static_cast<size_t>(Phase::idle)];
}

void put_phases(std::span<const PhaseSeconds> ranks, StepRecord& record) {
    for (size_t phase = 0; phase < n_phases; ++phase) {
        record.phases[phase] = spread_of(ranks, [&](const PhaseSeconds& rank) { return rank[phase]; });
    }
    record.busy = spread_of(ranks, busy_of);
    const auto slowest = std::max_element(
        ranks.begin(), ranks.end(), [](const auto& a, const auto& b) { return busy_of(a) < busy_of(b); });
    record.slowest_rank = slowest - ranks.begin();
}

void StepLog::write(std::span<const StepRecord> records) {
    Line lines;
    for (const StepRecord& record : records)
        put_record(lines, record);
    writer_.write_lines({lines.data(), lines.size()});
}

}  // namespace mixserve::io
