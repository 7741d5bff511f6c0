#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/phase.h"
#include "io/distribution.h"
#include "io/expert_load.h"
#include "io/result.h"
#include "io/row_scan.h"
#include "io/step_log.h"

namespace mixserve::io {

/// Figures of a job, gathered as its results come; memory does not grow with them.
class RunStatistics {
  public:
    void add(const Result& result);
    void add(const ScoreResult& result);
    /// Rows that were there before; they count, without their times.
    void add(const RowTotals& rows);

    int64_t n_completed() const { return n_completed_; }
    int64_t n_failed() const { return n_failed_; }
    int64_t n_input_tokens() const { return n_input_tokens_; }
    int64_t n_output_tokens() const { return n_output_tokens_; }
    const Distribution& ttft_ms() const { return ttft_ms_; }
    const Distribution& itl_ms() const { return itl_ms_; }
    const Distribution& tpot_ms() const {
        return tpot_ms_;
    }  // a request: (e2e - ttft) / (longest sample - 1)
    const Distribution& e2el_ms() const { return e2el_ms_; }
    /// Of all scored tokens together; nothing when none was scored.
    std::optional<double> perplexity() const;

  private:
    int64_t n_completed_ = 0;
    int64_t n_failed_ = 0;
    int64_t n_input_tokens_ = 0;
    int64_t n_output_tokens_ = 0;
    Distribution ttft_ms_;
    Distribution itl_ms_;
    Distribution tpot_ms_;
    Distribution e2el_ms_;
    double sum_logprobs_ = 0;
    int64_t n_scored_tokens_ = 0;
};

/// Where a rank's time went, summed over steps.
struct RankTimes {
    int64_t node = 0;
    std::string host;
    PhaseSeconds phase_seconds{};
};

/// What else the summary tells.
struct RunFacts {
    std::string model;
    std::string strategy;
    int64_t n_nodes = 1;
    int64_t n_ranks = 1;
    double duration_s = 0;      // of all starts together
    double load_s = 0;          // until the model was in memory, of the last start
    int64_t n_rows_before = 0;  // written by earlier starts
    int64_t n_starts = 1;
    std::array<double, n_phases> phase_seconds{};  // summed over steps, mean over ranks
    std::vector<RankTimes> ranks{};                // of the last start
    std::optional<ExpertLoad> expert_load{};       // likewise
    bool scores = false;                           // of `score`: no times of tokens
    bool stopped = false;                          // by a signal, with work left
};

/// summary.json, of all rows but for the latencies, which are those of the rows of the last start, as
/// "latencies_of":{"start","rows"} says. With the names of
/// vLLM's benchmarks (DESIGN.md section 2). Beside them "phase_shares", "expert_load" (io/expert_load.h) and
/// "ranks":[{"rank","node","host","phase_seconds":{...}},...].
ordered_json summary_json(const RunStatistics& statistics, const RunFacts& facts);

/// The same as a table for the terminal, lines with a newline each.
std::string summary_table(const RunStatistics& statistics, const RunFacts& facts);

}  // namespace mixserve::io
