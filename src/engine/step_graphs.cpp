#include "engine/step_graphs.h"

namespace mixserve::engine {
namespace {

/// A graph of a thousand launches takes some megabytes of the driver's memory.
constexpr size_t max_steps = 128;

}  // namespace

model::LogitsTile StepGraphs::run(const Sizes& sizes, const std::function<model::LogitsTile()>& work) {
    if (steps_.size() >= max_steps && !steps_.contains(sizes)) {
        stream_.gpu()->synchronize();
        steps_.clear();
    }
    const auto [found, is_new] = steps_.try_emplace(sizes);
    Step& step = found->second;
    if (is_new || step.memory_changes != device::gpu_memory_changes()) {
        if (step.graph) stream_.gpu()->synchronize();
        step.graph.reset();
        step.logits = work();
        step.memory_changes = device::gpu_memory_changes();
        return step.logits;
    }
    if (!step.graph) record(step, work);
    stream_.gpu()->replay(*step.graph);
    ++n_replays_;
    return step.logits;
}

void StepGraphs::record(Step& step, const std::function<model::LogitsTile()>& work) {
    stream_.gpu()->begin_capture();
    try {
        step.logits = work();
        step.graph = stream_.gpu()->end_capture();
    } catch (...) {
        stream_.gpu()->abandon_capture();
        throw;
    }
}

}  // namespace mixserve::engine
