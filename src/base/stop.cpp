#include "base/stop.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace mixserve {
namespace {

constexpr int64_t repeat_ms = 500;

// When the first signal came, in milliseconds of the monotonic clock, times 256, plus its number; 0: none.
// One word, since any thread may run the handler.
std::atomic<int64_t> first_signal{0};
std::atomic<unsigned int> limit_s{0};
static_assert(std::atomic<int64_t>::is_always_lock_free && std::atomic<unsigned int>::is_always_lock_free);

int64_t now_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// The handlers call only what POSIX lists as safe there.

void on_stop(int number) {
    const int saved_errno = errno;
    const int64_t now = now_ms();
    int64_t first = 0;
    if (first_signal.compare_exchange_strong(first, now * 256 + number)) {
        alarm(limit_s.load());
    } else if (now - first / 256 > repeat_ms) {
        _exit(128 + number);
    }
    errno = saved_errno;
}

void on_alarm(int /*number*/) {
    constexpr std::string_view text = "mixserve: stopped by a signal before the first step\n";
    [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, text.data(), text.size());
    _exit(stop_exit_code(stop_signal()));
}

void handle(int number, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
}

}  // namespace

void catch_stop_signals() {
    handle(SIGALRM, on_alarm);
    for (const int number : {SIGTERM, SIGUSR1, SIGINT})
        handle(number, on_stop);
}

int stop_signal() {
    return static_cast<int>(first_signal.load() % 256);
}

void limit_stop(unsigned int seconds) {
    limit_s.store(seconds);
    alarm(stop_signal() != 0 ? seconds : 0);
}

ExitCode stop_exit_code(int signal) {
    return signal == SIGINT ? exit_interrupted : exit_stopped;
}

const char* stop_signal_name(int signal) {
    switch (signal) {
        case SIGTERM:
            return "SIGTERM";
        case SIGUSR1:
            return "SIGUSR1";
        case SIGINT:
            return "SIGINT";
        default:
            return "a signal";
    }
}

StopRequest::StopRequest(int signal)
    : Error(fmt::format("stopped by {}", stop_signal_name(signal)), stop_exit_code(signal)) {}

void throw_if_stopped() {
    if (const int signal = stop_signal(); signal != 0) throw StopRequest(signal);
}

}  // namespace mixserve
