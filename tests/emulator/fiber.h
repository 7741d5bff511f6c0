#pragma once

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

    /// After the body before has ended.
    void start(std::function<void()> body);
    void resume();
    /// Back to whoever called resume(). Inside the body only.
    void yield();
    bool has_ended() const { return ended_; }
    /// What runs first on the stack.
    void run();

  private:
    struct Context;
    std::byte* stack_ = nullptr;
    std::function<void()> body_;
    bool ended_ = true;
    std::unique_ptr<Context> context_;
};

}  // namespace mixserve::emulator
