#include "engine/step_recorder.h"

#include <utility>

#include "base/bytes.h"

namespace mixserve::engine {

StepRecorder::StepRecorder(const comm::Communicator& world, StepSink* sink, bool tracing,
                           std::function<std::vector<int64_t>()> take_expert_counts)
    : world_(world), sink_(sink), tracing_(tracing), take_expert_counts_(std::move(take_expert_counts)) {}

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
    std::vector<int64_t> expert_counts = take_expert_counts_();
    world_.all_reduce(std::span<int64_t>(expert_counts), comm::ReduceOp::sum);
    if (sink_ == nullptr) return;

    std::vector<std::vector<StepSample>> of_rank;
    for (size_t rank = 0; rank < messages.size(); ++rank) {
        ByteReader in(messages[rank]);
        of_rank.push_back(in.get_array<StepSample>());
        sink_->take_spans(static_cast<int>(rank), in.get_array<TraceSpan>());
    }
    sink_->take_steps(of_rank, expert_counts);
}

}  // namespace mixserve::engine
