#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace mixserve {

/// What a step's time is spent on. `idle` is waiting for other ranks.
enum class Phase : uint8_t {
    schedule,
    attention,
    router,
    dispatch,
    experts,
    combine,
    logits,
    sampling,
    output,
    idle
};
inline constexpr int n_phases = 10;
std::string_view name(Phase phase);

/// One span of a trace: seconds on the monotonic clock of this rank. With `n_bytes` it is a message that has
/// come from another node, at `end_s`: tokens in Phase::dispatch, sums in Phase::combine.
struct TraceSpan {
    Phase phase;
    int32_t layer;  // -1 outside of layers
    double begin_s;
    double end_s;
    int64_t n_bytes = 0;
};

/// Adds up where time goes, one phase at a time; with tracing on, keeps every span as well.
/// One per rank, passed by reference to whatever takes part in a step.
class PhaseTimer {
  public:
    /// Ends the running phase and starts `phase`; returns the one that ran.
    Phase enter(Phase phase);
    void set_layer(int32_t layer);
    void set_tracing(bool on) { tracing_ = on; }
    /// For traces: a message of `n_bytes` from another node has been found to be here, of `phase` (see
    /// TraceSpan).
    void note_arrival(Phase phase, int64_t n_bytes);

    /// Seconds of each phase since the last take(), up to now.
    std::array<double, n_phases> take();
    std::vector<TraceSpan> take_spans();

    Phase current() const { return phase_; }
    int32_t layer() const { return layer_; }

  private:
    void close(double now);

    std::array<double, n_phases> seconds_{};
    std::vector<TraceSpan> spans_;
    Phase phase_ = Phase::schedule;
    int32_t layer_ = -1;
    bool tracing_ = false;
    double since_s_ = now_s();
};

/// Runs `phase` for the length of a scope, then goes back to the one before.
class PhaseScope {
  public:
    PhaseScope(PhaseTimer& timer, Phase phase) : timer_(timer), before_(timer.enter(phase)) {}
    ~PhaseScope() { timer_.enter(before_); }
    PhaseScope(const PhaseScope&) = delete;
    PhaseScope& operator=(const PhaseScope&) = delete;

  private:
    PhaseTimer& timer_;
    Phase before_;
};

}  // namespace mixserve
