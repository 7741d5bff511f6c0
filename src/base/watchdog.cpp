#include "base/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/heartbeat.h"

namespace mixserve {
namespace {

/// In one piece, so that the lines of several ranks do not mix.
void print(const std::string& line) {
    [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, line.data(), line.size());
}

std::string place_text() {
    std::string text =
        heartbeat.step() < 0 ? "before the first step" : fmt::format("step {}", heartbeat.step());
    if (heartbeat.layer() >= 0) text += fmt::format(", layer {}", heartbeat.layer());
    const char* call = heartbeat.call();
    return fmt::format("{}, {} in {}", text,
                       call == nullptr ? "computing" : fmt::format("waiting in {}", call), heartbeat.phase());
}

}  // namespace

Watchdog::Watchdog(double timeout_s, int rank, int n_ranks, std::string host)
    : timeout_s_(timeout_s), rank_(rank), n_ranks_(n_ranks), host_(std::move(host)) {
    if (timeout_s_ > 0) thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

bool Watchdog::sleep(double seconds) {
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return ending_; });
}

void Watchdog::watch() {
    const double interval_s = std::clamp(timeout_s_ / 20, 0.02, 1.0);
    uint64_t seen = heartbeat.n_beats();
    double quiet_s = 0;
    double last_s = now_s();
    while (sleep(interval_s)) {
        const double now = now_s();
        const double elapsed_s = now - std::exchange(last_s, now);
        const uint64_t n_beats = heartbeat.n_beats();
        if (std::exchange(seen, n_beats) != n_beats) {
            quiet_s = 0;
            continue;
        }
        quiet_s += std::min(elapsed_s, 2 * interval_s);  // more than that: the process was stopped
        if (quiet_s >= timeout_s_) end_job();
    }
}

void Watchdog::end_job() {
    print(fmt::format("mixserve: watchdog: rank {} of {} on host {} has not got on for {:g} s: {}\n", rank_,
                      n_ranks_, host_, timeout_s_, place_text()));
    // One after the other, so that the explanation comes once: the launcher ends the rest meanwhile.
    const double others_s = std::clamp(timeout_s_ / 10, 2.0, 10.0);
    const double turn_s = 2.5 * std::min(rank_, 4);  // mpirun takes two seconds
    std::this_thread::sleep_for(std::chrono::duration<double>(others_s + turn_s));
    print(fmt::format(
        "mixserve: watchdog: the job ends (--watchdog-timeout {:g}). What holds its {} ranks up is one that "
        "printed no line (it was stopped, or its host cannot be reached), or one that was computing; when "
        "all "
        "wait, look at the network between their hosts\n",
        timeout_s_, n_ranks_));
    _exit(exit_failure);
}

}  // namespace mixserve
