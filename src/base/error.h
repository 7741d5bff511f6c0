#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace mixserve {

/// The program's exit codes (DESIGN.md section 1).
enum ExitCode : int { exit_ok = 0, exit_failure = 1, exit_usage = 2, exit_stopped = 75 };

/// Whatever ends the program. The text says what is wrong, where, and what to do; it is printed once, by
/// app/main.
class Error : public std::runtime_error {
  public:
    explicit Error(const std::string& text, ExitCode code = exit_failure)
        : std::runtime_error(text), exit_code_(code) {}
    ExitCode exit_code() const { return exit_code_; }

  private:
    ExitCode exit_code_;
};

/// Bad usage or bad input, found before work starts: exit code 2.
class UsageError : public Error {
  public:
    explicit UsageError(const std::string& text) : Error(text, exit_usage) {}
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    throw Error(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
    throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

/// Validation of what users and files bring: always on.
template <class... Args>
void require(bool ok, fmt::format_string<Args...> format, Args&&... args) {
    if (!ok) fail(format, std::forward<Args>(args)...);
}

template <class... Args>
void require_usage(bool ok, fmt::format_string<Args...> format, Args&&... args) {
    if (!ok) fail_usage(format, std::forward<Args>(args)...);
}

/// Text of errno `code`, as in "No such file or directory".
std::string errno_text(int code);

}  // namespace mixserve

/// A contract between functions, checked in debug and sanitizer builds only.
#ifdef NDEBUG
#define MIXSERVE_ASSERT(condition) static_cast<void>(0)
#else
#define MIXSERVE_ASSERT(condition)          \
    ((condition) ? static_cast<void>(0)     \
                 : throw ::mixserve::Error( \
                       fmt::format("{}:{}: broken contract: {}", __FILE__, __LINE__, #condition)))
#endif
