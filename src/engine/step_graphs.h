#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "device/gpu.h"
#include "device/stream.h"
#include "model/pass.h"

namespace mixserve::engine {

/// Decode steps as recorded work, one for each size of step: replaying one takes the host a call, where the
/// step has a thousand.
class StepGraphs {
  public:
    /// What decides which launches a step takes (kernels::cuda::AttentionPlan::sizes()).
    using Sizes = std::array<int64_t, 4>;

    /// `stream`, which has a GPU, is borrowed.
    explicit StepGraphs(device::Stream& stream) : stream_(stream) {}

    /// Runs `work`, which enqueues the step on the stream and returns where its logits will be. The first
    /// step of its sizes is run as it is, so that all memory that it needs is there; the second is recorded;
    /// from then on `work` is not called, but replayed. Once device memory has moved, all begins anew.
    model::LogitsTile run(const Sizes& sizes, const std::function<model::LogitsTile()>& work);

    int64_t n_replays() const { return n_replays_; }

  private:
    struct Step {
        uint64_t memory_changes = 0;  // gpu_memory_changes() when it was last run, or recorded
        std::optional<device::GpuGraph> graph;
        model::LogitsTile logits;
    };
    void record(Step& step, const std::function<model::LogitsTile()>& work);

    device::Stream& stream_;
    std::map<Sizes, Step> steps_;
    int64_t n_replays_ = 0;
};

}  // namespace mixserve::engine
