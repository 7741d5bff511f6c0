#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/phase.h"
#include "comm/communicator.h"

namespace mixserve::engine {

/// What one rank knows of one step. Counts are those of its group, from the group's leader; zero on other
/// ranks.
struct StepSample {
    int64_t step = 0;
    double end_s = 0;  // on this rank's monotonic clock
    double duration_s = 0;
    int64_t n_prefill = 0;
    int64_t n_decode = 0;
    int64_t n_running = 0;
    int64_t n_waiting = 0;
    int64_t kv_blocks_used = 0;
    int64_t kv_blocks_total = 0;
    std::array<double, n_phases> phase_s{};
};

/// Where the records of all ranks go, on world rank 0.
class StepSink {
  public:
    virtual ~StepSink() = default;
    /// The steps since it came last: `of_rank` [ranks][steps]. `expert_counts` [layers, num_experts]: tokens
    /// of all ranks that chose an expert in them.
    virtual void take_steps(std::span<const std::vector<StepSample>> of_rank,
                            std::span<const int64_t> expert_counts) = 0;
    virtual void take_spans(int rank, std::span<const TraceSpan> spans) = 0;
};

/// Keeps each rank's record of the last steps and brings them to world rank 0 now and then: a step itself
/// waits for no message of the log.
class StepRecorder {
  public:
    /// `sink` is null but on world rank 0. Both borrowed. `take_expert_counts`: RankModel's, or its like;
    /// asked at every flush.
    StepRecorder(const comm::Communicator& world, StepSink* sink, bool tracing,
                 std::function<std::vector<int64_t>()> take_expert_counts);

    /// Called by every rank after every step; every 64th is collective.
    void record(const StepSample& sample, std::vector<TraceSpan> spans);
    /// Collective.
    void flush();

  private:
    const comm::Communicator& world_;
    StepSink* sink_;
    bool tracing_;
    std::vector<StepSample> samples_;
    std::vector<TraceSpan> spans_;
    std::function<std::vector<int64_t>()> take_expert_counts_;
};

}  // namespace mixserve::engine
