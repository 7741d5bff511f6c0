#pragma once

#include <atomic>
#include <cstdint>

namespace mixserve {

/// Hears of every beat, in the main thread.
class BeatListener {
  public:
    virtual ~BeatListener() = default;
    virtual void on_beat() = 0;
};

/// What the main thread of this process is at, for the watchdog to read. Only the main thread writes, a plain
/// store each time.
class Heartbeat {
  public:
    /// The work has got on. Loops that wait for others do not beat.
    void beat() {
        n_beats_.store(n_beats_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        if (listener_ != nullptr) listener_->on_beat();
    }
    /// Who hears of beats from now on; null: nobody.
    void tell(BeatListener* listener) { listener_ = listener; }
    void at_step(int64_t step) {
        step_.store(step, std::memory_order_relaxed);
        beat();
    }
    void at_layer(int32_t layer) {
        layer_.store(layer, std::memory_order_relaxed);
        beat();
    }
    /// `phase`: a literal.
    void in_phase(const char* phase) {
        phase_.store(phase, std::memory_order_relaxed);
        beat();
    }
    /// What this rank waits in for others, a literal; null: it computes. Returns what it waited in before.
    const char* wait_in(const char* call) {
        const char* before = call_.load(std::memory_order_relaxed);
        call_.store(call, std::memory_order_relaxed);
        beat();
        return before;
    }

    uint64_t n_beats() const { return n_beats_.load(std::memory_order_relaxed); }
    int64_t step() const { return step_.load(std::memory_order_relaxed); }    // -1: before the first
    int32_t layer() const { return layer_.load(std::memory_order_relaxed); }  // -1: outside of layers
    const char* phase() const { return phase_.load(std::memory_order_relaxed); }
    const char* call() const { return call_.load(std::memory_order_relaxed); }

  private:
    std::atomic<uint64_t> n_beats_{0};
    std::atomic<int64_t> step_{-1};
    std::atomic<int32_t> layer_{-1};
    std::atomic<const char*> phase_{"start"};
    std::atomic<const char*> call_{nullptr};
    BeatListener* listener_ = nullptr;
};

/// Of this process, as its log is.
inline Heartbeat heartbeat;

/// Names the call that the main thread waits in, for the length of a scope.
class WaitScope {
  public:
    explicit WaitScope(const char* call) : before_(heartbeat.wait_in(call)) {}
    ~WaitScope() { heartbeat.wait_in(before_); }
    WaitScope(const WaitScope&) = delete;
    WaitScope& operator=(const WaitScope&) = delete;

  private:
    const char* before_;
};

}  // namespace mixserve
