#pragma once

#include <memory>
#include <string>
#include <utility>

#include "text/jinja_interpreter.h"

/// The guards that the parts of the interpreter share.
namespace mixserve::text::jinja {

/// Bounds how deep the evaluation nests, so that no template overflows the stack.
class Interpreter::Descent {
  public:
    explicit Descent(Interpreter& in) : in_(in) {
        if (in_.descent_ >= max_descent) raise("the template recurses too deep");
        ++in_.descent_;
    }
    ~Descent() { --in_.descent_; }
    Descent(const Descent&) = delete;
    Descent& operator=(const Descent&) = delete;

  private:
    static constexpr int max_descent = 1000;
    Interpreter& in_;
};

/// Variables are looked up and set in another scope while this lives.
class Interpreter::ScopeGuard {
  public:
    ScopeGuard(Interpreter& in, std::shared_ptr<Scope> scope)
        : in_(in), saved_(std::exchange(in.scope_, std::move(scope))) {}
    ~ScopeGuard() { in_.scope_ = std::move(saved_); }
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;

  private:
    Interpreter& in_;
    std::shared_ptr<Scope> saved_;
};

/// What is written goes to a string of its own while this lives.
class Interpreter::Capture {
  public:
    explicit Capture(Interpreter& in) : in_(in), saved_(std::exchange(in.output_, {})) {}
    ~Capture() { in_.output_ = std::move(saved_); }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    std::string take() { return std::move(in_.output_); }

  private:
    Interpreter& in_;
    std::string saved_;
};

}  // namespace mixserve::text::jinja
