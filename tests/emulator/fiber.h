#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace mixserve::emulator {

/// A stack of its own on which `body` runs, from resume() to the next yield() or its end.
class Fiber {
  public:
    Fiber();
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    /// The body is run anew after it has ended.
    void start(std::function<void()> body);
    void resume();
    /// Back to whoever called resume(). Inside the body only.
    void yield();
    bool has_ended() const { return ended_; }

  private:
    static void enter(unsigned high, unsigned low);

    std::byte* stack_ = nullptr;
    std::function<void()> body_;
    bool ended_ = true;
    ucontext_t own_{};
    ucontext_t caller_{};
};

}  // namespace mixserve::emulator
