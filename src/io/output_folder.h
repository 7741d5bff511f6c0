#pragma once

#include <set>
#include <string>

#include "base/json.h"
#include "io/file_lock.h"

namespace mixserve::io {

/// The folder of a job's output. It belongs to one job at a time: it stays locked while the object lives.
class OutputFolder {
  public:
    /// Makes the folder, with those above it, and locks it; `holder` says who has it, as FileLock takes it.
    /// UsageError when it is a file, cannot be written, is another job's at the moment, or holds anything
    /// that `resume` does not allow for: without it, anything but what a start that made no row has left,
    /// which is removed; with it, anything but an earlier job's output.
    static OutputFolder open(const std::string& path, bool resume, const ordered_json& holder);

    const std::string& path() const { return path_; }
    std::string file(const std::string& name) const { return path_ + "/" + name; }
    /// Whether a job was here before: run.json is there.
    bool has_job() const;

  private:
    OutputFolder(std::string path, FileLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    void clear(const std::set<std::string>& names) const;

    std::string path_;
    FileLock lock_;
};

/// The name of the file of rows in an output folder: of `score`, or of `run`.
constexpr const char* rows_file_name(bool scores) {
    return scores ? "scores.jsonl" : "generations.jsonl";
}

/// The name of the lock's file in an output folder.
inline constexpr const char* lock_file_name = "job.lock";

}  // namespace mixserve::io
