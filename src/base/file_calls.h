#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace mixserve {

/// The calls to file systems that threads of this process are in, for the watchdog to read: such a call may
/// never return, where a server is gone.
class FileCalls {
  public:
    struct Call {
        std::string text;     // as "reading '/data/prompts.jsonl'"
        uint64_t number = 0;  // of all calls so far; tells this one from the next of its thread
        bool open = false;
    };

    /// `verb`: as "reading". Returns the place that end() takes.
    size_t begin(const char* verb, const std::string& path);
    void end(size_t place);
    /// What is at `place`, where a call is open there.
    std::optional<Call> at(size_t place) const;
    /// Calls that were ever open at once.
    size_t n_places() const;

  private:
    mutable std::mutex mutex_;
    std::vector<Call> places_;
    uint64_t n_calls_ = 0;
};

/// Of this process, as its log is.
inline FileCalls file_calls;

/// Tells of a call to a file system, for the length of a scope.
class FileCallScope {
  public:
    FileCallScope(const char* verb, const std::string& path) : place_(file_calls.begin(verb, path)) {}
    ~FileCallScope() { file_calls.end(place_); }
    FileCallScope(const FileCallScope&) = delete;
    FileCallScope& operator=(const FileCallScope&) = delete;

  private:
    size_t place_;
};

}  // namespace mixserve
