#include "io/step_log.h"

#include <algorithm>
#include <string>

#include "base/json.h"
#include "io/row_parts.h"

namespace mixserve::io {

std::array<Spread, n_phases> spread_of(std::span<const PhaseSeconds> ranks) {
    std::array<Spread, n_phases> spreads{};
    for (size_t phase = 0; phase < n_phases; ++phase) {
        Spread& spread = spreads[phase];
        spread.min = spread.max = ranks.front()[phase];
        double sum = 0;
        for (const PhaseSeconds& rank : ranks) {
            spread.min = std::min(spread.min, rank[phase]);
            spread.max = std::max(spread.max, rank[phase]);
            sum += rank[phase];
        }
        spread.mean = sum / static_cast<double>(ranks.size());
    }
    return spreads;
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
        phases[std::string(name(static_cast<Phase>(phase)))] = {{"min_ms", rounded_ms(spread.min * 1e3)},
                                                                {"mean_ms", rounded_ms(spread.mean * 1e3)},
                                                                {"max_ms", rounded_ms(spread.max * 1e3)}};
    }
    writer_.write(line_of(line));
}

}  // namespace mixserve::io
