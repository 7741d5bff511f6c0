#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace mixserve {

/// A thread that ends the job when this rank's heartbeat stands still for `timeout_s`, or one call to a file
/// system lasts that long on any of its threads: then something waits for ever, here or on another rank. It
/// says where this rank is, gives the watchdogs of the other ranks
/// time to do the same (when one is stuck, soon all are), and ends the process with exit code 1. It makes no
/// MPI call; the launcher ends the other ranks (mpirun does, srun with --kill-on-bad-exit=1).
///
/// The time for which the whole process was stopped does not count.
class Watchdog {
  public:
    /// `timeout_s` 0: no thread.
    Watchdog(double timeout_s, int rank, int n_ranks, std::string host);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

  private:
    void watch();
    /// `file_call`: what the rank is stuck in, as FileCalls says it; "": no file system.
    [[noreturn]] void end_job(const std::string& file_call);
    bool sleep(double seconds);  // false: the watchdog is to end

    const double timeout_s_;
    const int rank_;
    const int n_ranks_;
    const std::string host_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ending_ = false;
    std::thread thread_;
};

}  // namespace mixserve
