#include "engine/step_recorder.h"

#include <utility>

#include "base/bytes.h"

namespace mixserve::engine {

StepRecorder::StepRecorder(const comm::Communicator& world, const model::ModelConfig& config, StepSink* sink,
                           bool tracing)
    : world_(world),
      sink_(sink),
      tracing_(tracing),
      num_experts_(config.num_experts),
      expert_counts_(static_cast<size_t>(config.num_hidden_layers * config.num_experts)) {}

void StepRecorder::count_experts(int64_t layer, std::span<const int32_t> experts) {
    int64_t* counts = expert_counts_.data() + layer * num_experts_;
    for (const int32_t expert : experts)
        ++counts[expert];
}

void StepRecorder::record(const StepSample& sample, std::vector<TraceSpan> spans) {
    samples_.push_back(sample);
    if (tracing_) spans_.insert(spans_.end(), spans.begin(), spans.end());
    constexpr size_t steps_a_flush = 64;
    if (samples_.size() >= steps_a_flush) flush();
}

void StepRecorder::flush() {
    ByteWriter out;
    out.put_array(std::exchange(samples_, {}));
    out.put_array(std::exchange(spans_, {}));
    const std::vector<std::vector<std::byte>> messages = world_.gather(out.bytes(), 0);
    std::vector<int64_t> expert_counts = std::exchange(expert_counts_, {});
    expert_counts_.resize(expert_counts.size());
    world_.all_reduce(std::span<int64_t>(expert_counts), comm::ReduceOp::sum);
    if (sink_ == nullptr) return;

    std::vector<std::vector<StepSample>> of_rank;
    for (size_t rank = 0; rank < messages.size(); ++rank) {
        ByteReader in(messages[rank]);
        of_rank.push_back(in.get_array<StepSample>());
        sink_->take_spans(static_cast<int>(rank), in.get_array<TraceSpan>());
    }
    for (size_t step = 0; step < of_rank[0].size(); ++step) {
        std::vector<StepSample> ranks;
        for (const std::vector<StepSample>& samples : of_rank)
            ranks.push_back(samples.at(step));
        const bool is_last = step + 1 == of_rank[0].size();
        sink_->take_step(ranks, is_last ? expert_counts : std::vector<int64_t>{});
    }
}

}  // namespace mixserve::engine
