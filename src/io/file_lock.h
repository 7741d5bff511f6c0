#pragma once

#include <string>

#include "base/json.h"

namespace mixserve::io {

/// A lock that one process of all hosts can hold. The kernel, and on NFS the server, releases it when the
/// process ends, however it does; the file stays. It is a POSIX record lock (fcntl): the kind that most
/// network file systems pass to their server. flock() stays local on some, and open-file-description locks
/// are unknown to others; what they add, safety against a second open of the file in the same process, is
/// not needed for a file that only this class opens.
class FileLock {
  public:
    /// `holder`: {"host","pid","slurm_job_id","slurm_restart_count"} as far as known, left in the file for
    /// whoever is refused. UsageError, naming the holder, when another process has the lock. A holder that
    /// is the same Slurm job before its requeue is waited for, `patience_s` at most: its node may have died,
    /// and a server takes a while to notice that. Where the file system has no locks, a warning is all.
    static FileLock take(const std::string& path, const ordered_json& holder, double patience_s = 300);
    /// As take, but shared with others that only look, and without a trace in the file; nothing where there
    /// is no such file. For who must not run beside a job, but does not write.
    static FileLock look(const std::string& path);

    ~FileLock();
    FileLock(FileLock&& other) noexcept;
    FileLock& operator=(FileLock&& other) noexcept;

    /// False where the file system has no locks.
    bool is_locked() const { return is_locked_; }

  private:
    explicit FileLock(int descriptor) : descriptor_(descriptor) {}
    int descriptor_ = -1;
    bool is_locked_ = false;
};

}  // namespace mixserve::io
