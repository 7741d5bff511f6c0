#include "base/phase.h"

#include <utility>

#include "base/heartbeat.h"

namespace mixserve {

std::string_view name(Phase phase) {
    static constexpr std::array<std::string_view, n_phases> names{
        "schedule", "attention", "router",   "dispatch", "experts",
        "combine",  "logits",    "sampling", "output",   "idle"};
    return names[static_cast<size_t>(phase)];
}

void PhaseTimer::close(double now) {
    seconds_[static_cast<size_t>(phase_)] += now - since_s_;
    if (tracing_ && now > since_s_) spans_.push_back({phase_, layer_, since_s_, now});
    since_s_ = now;
}

Phase PhaseTimer::enter(Phase phase) {
    close(now_s());
    // Who waits is still in the phase that it waits for.
    if (phase == Phase::idle) {
        heartbeat.beat();
    } else {
        heartbeat.in_phase(name(phase).data());
    }
    return std::exchange(phase_, phase);
}

void PhaseTimer::set_layer(int32_t layer) {
    layer_ = layer;
    heartbeat.at_layer(layer);
}

void PhaseTimer::note_arrival(Phase phase, int64_t n_bytes) {
    if (!tracing_) return;
    const double now = now_s();
    spans_.push_back({phase, layer_, now, now, n_bytes});
}

std::array<double, n_phases> PhaseTimer::take() {
    close(now_s());
    return std::exchange(seconds_, {});
}

std::vector<TraceSpan> PhaseTimer::take_spans() {
    return std::exchange(spans_, {});
}

}  // namespace mixserve
