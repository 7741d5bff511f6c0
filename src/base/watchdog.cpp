#include "base/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/file_calls.h"
#include "base/heartbeat.h"
#include "base/launcher.h"

namespace mixserve {
namespace {

/// In one piece, so that the lines of several ranks do not mix.
void print(const std::string& line) {
    [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, line.data(), line.size());
}

std::string remedy(int n_ranks, const std::string& file_call) {
    if (file_call.empty()) {
        return fmt::format(
            "What holds its {} ranks up is one that printed no line (it was stopped, or its host cannot be "
            "reached), or one that was computing or at a file; when all wait, look at the network between "
            "their hosts",
            n_ranks);
    }
    return fmt::format(
        "A file system does not answer ({}): see whether its server can be reached and is not overloaded, "
        "then "
        "start again with --resume",
        file_call);
}

std::string place_text(const std::string& file_call) {
    std::string text =
        heartbeat.step() < 0 ? "before the first step" : fmt::format("step {}", heartbeat.step());
    if (heartbeat.layer() >= 0) text += fmt::format(", layer {}", heartbeat.layer());
    if (!file_call.empty()) return text + ", " + file_call;
    const char* call = heartbeat.call();
    return fmt::format("{}, {} in {}", text,
                       call == nullptr ? "computing" : fmt::format("waiting in {}", call), heartbeat.phase());
}

/// How long something has been as it is.
class Stillness {
  public:
    /// `now`: a number that changes with what is watched; `elapsed_s` has passed since the last time.
    void look(uint64_t now, double elapsed_s) {
        seconds_ = std::exchange(seen_, now) == now ? seconds_ + elapsed_s : 0;
    }
    double seconds() const { return seconds_; }

  private:
    uint64_t seen_ = 0;
    double seconds_ = 0;
};

/// The calls to file systems, one at each place.
class FileWatch {
  public:
    void look(double elapsed_s) {
        places_.resize(file_calls.n_places());
        for (size_t i = 0; i < places_.size(); ++i) {
            const auto call = file_calls.at(i);
            places_[i].look(call ? call->number : 0, call ? elapsed_s : 0);
        }
    }
    /// The call that has lasted longest, if that is `seconds`; else "".
    std::string longest(double seconds) const {
        const auto most = std::max_element(places_.begin(), places_.end(), [](const auto& a, const auto& b) {
            return a.seconds() < b.seconds();
        });
        if (most == places_.end() || most->seconds() < seconds) return "";
        const auto call = file_calls.at(static_cast<size_t>(most - places_.begin()));
        return call ? call->text : "";
    }

  private:
    std::vector<Stillness> places_;
};

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
    Stillness main_thread;
    FileWatch files;
    double last_s = now_s();
    while (sleep(interval_s)) {
        const double now = now_s();
        // More than that: the process was stopped.
        const double elapsed_s = std::min(now - std::exchange(last_s, now), 2 * interval_s);
        main_thread.look(heartbeat.n_beats(), elapsed_s);
        files.look(elapsed_s);
        if (const std::string call = files.longest(timeout_s_); !call.empty()) end_job(call);
        // Its last beat is somewhat older than the call that it is stuck in.
        if (main_thread.seconds() >= timeout_s_) end_job(files.longest(timeout_s_ / 2));
    }
}

void Watchdog::end_job(const std::string& file_call) {
    print(fmt::format("mixserve: watchdog: rank {} of {} on host {} has not got on for {:g} s: {}\n", rank_,
                      n_ranks_, host_, timeout_s_, place_text(file_call)));
    // One after the other, so that the explanation comes once: the launcher ends the rest meanwhile. With
    // the launcher's time, all is over within 30 s.
    const double others_s = std::clamp(timeout_s_ / 10, 2.0, 8.0);
    const double turn_s = 2.5 * std::min(rank_, 4);  // mpirun takes two seconds
    std::this_thread::sleep_for(std::chrono::duration<double>(others_s + turn_s));
    print(fmt::format("mixserve: watchdog: the job ends (--watchdog-timeout {:g}). {}\n", timeout_s_,
                      remedy(n_ranks_, file_call)));
    kill_launcher_that_stays(10);
    _exit(exit_failure);
}

}  // namespace mixserve
