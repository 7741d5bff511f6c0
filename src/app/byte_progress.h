#pragma once

#include <cstdint>
#include <string>

namespace mixserve::app {

/// How far a long copy is, on stderr: a bar on a terminal, else a line every 30 s; a line at the end either
/// way.
class ByteProgress {
  public:
    ByteProgress(std::string label, int64_t total_bytes);
    /// Leaves a half-drawn bar on a line of its own.
    ~ByteProgress();
    ByteProgress(const ByteProgress&) = delete;
    ByteProgress& operator=(const ByteProgress&) = delete;

    void update(int64_t done_bytes);
    void finish();

  private:
    std::string numbers(int64_t done_bytes) const;

    std::string label_;
    int64_t total_bytes_;
    double start_s_;
    double shown_s_;
    bool terminal_;
    bool bar_open_ = false;
};

}  // namespace mixserve::app
