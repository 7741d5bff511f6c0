#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/phase.h"
#include "io/row_writer.h"

namespace mixserve::io {

/// Of one figure over the ranks.
struct Spread {
    double min = 0;
    double mean = 0;
    double max = 0;
};

using PhaseSeconds = std::array<double, n_phases>;
/// `ranks`: seconds of each phase on each rank, at least one.
std::array<Spread, n_phases> spread_of(std::span<const PhaseSeconds> ranks);

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
    std::array<Spread, n_phases> phases{};  // seconds
};

/// steps.jsonl: {"step","time_s","duration_ms","prefill_tokens","decode_tokens","running","waiting",
/// "kv_blocks_used","kv_blocks_total","phases":{"attention":{"min_ms","mean_ms","max_ms"},...}}; a phase that
/// took no time on any rank is left out.
class StepLog {
  public:
    /// Goes on with a file after its first `n_bytes` (RowWriter::append).
    explicit StepLog(const std::string& path, int64_t n_bytes = 0)
        : writer_(RowWriter::append(path, n_bytes)) {}
    void write(const StepRecord& record);

  private:
    RowWriter writer_;
};

}  // namespace mixserve::io
