#include "io/step_log.h"

#include <algorithm>
#include <numeric>
#include <string>

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

ordered_json to_json(const Spread& spread) {
    return {{"min_ms", rounded_ms(spread.min * 1e3)},
            {"mean_ms", rounded_ms(spread.mean * 1e3)},
            {"max_ms", rounded_ms(spread.max * 1e3)}};
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

void StepLog::write(const StepRecord& record) {
    ordered_json line{{"step", record.step},
                      {"time_s", rounded_ms(record.time_s * 1e3) / 1e3},
                      {"duration_ms", rounded_ms(record.duration_s * 1e3)},
                      {"prefill_tokens", record.n_prefill},
                      {"decode_tokens", record.n_decode},
                      {"running", record.n_running},
                      {"waiting", record.n_waiting},
                      {"kv_blocks_used", record.kv_blocks_used},
                      {"kv_blocks_total", record.kv_blocks_total}};
    ordered_json& phases = line["phases"] = ordered_json::object();
    for (size_t phase = 0; phase < n_phases; ++phase) {
        const Spread& spread = record.phases[phase];
        if (spread.max <= 0) continue;
        phases[std::string(name(static_cast<Phase>(phase)))] = to_json(spread);
    }
    line["busy"] = to_json(record.busy);
    line["slowest_rank"] = record.slowest_rank;
    if (record.expert_load) line["expert_load"] = to_json(*record.expert_load);
    writer_.write(line_of(line));
}

}  // namespace mixserve::io
