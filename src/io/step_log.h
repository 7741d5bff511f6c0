#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/phase.h"
#include "io/expert_load.h"
#include "io/row_writer.h"

namespace mixserve::io {

/// Of one figure over the ranks.
struct Spread {
    double min = 0;
    double mean = 0;
    double max = 0;
};

using PhaseSeconds = std::array<double, n_phases>;
/// Seconds of a rank outside of Phase::idle.
double busy_of(const PhaseSeconds& rank);

/// One step of all nodes together.
struct StepRecord {
    int64_t step = 0;
    double time_s = 0;  // since the job's start, at the end of the step
    double duration_s = 0;
    int64_t n_prefill = 0;  // tokens
    int64_t n_decode = 0;
    int64_t n_running = 0;  // sequences
    int64_t n_waiting = 0;
    int64_t kv_blocks_used = 0;
    int64_t kv_blocks_total = 0;
    std::array<Spread, n_phases> phases{};    // seconds
    Spread busy{};                            // seconds outside of Phase::idle
    int64_t slowest_rank = 0;                 // the one that was busy longest
    std::optional<ExpertLoad> expert_load{};  // of the steps since the last record that had it
};

/// Fills phases, busy and slowest_rank from the seconds of each rank, at least one.
void put_phases(std::span<const PhaseSeconds> ranks, StepRecord& record);

/// steps.jsonl: {"step","time_s","duration_ms","prefill_tokens","decode_tokens","running","waiting",
/// "kv_blocks_used","kv_blocks_total","phases":{"attention":{"min_ms","mean_ms","max_ms"},...},
/// "busy":{"min_ms","mean_ms","max_ms"},"slowest_rank","expert_load":{...}}; a phase that took no time on any
/// rank is left out, and expert_load (see io/expert_load.h) comes every 64th step and with the last.
class StepLog {
  public:
    /// Goes on with a file after its first `n_bytes` (RowWriter::append).
    explicit StepLog(const std::string& path, int64_t n_bytes = 0)
        : writer_(RowWriter::append(path, n_bytes)) {}
    void write(std::span<const StepRecord> records);

  private:
    RowWriter writer_;
};

}  // namespace mixserve::io
