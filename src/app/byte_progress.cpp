#include "app/byte_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "app/byte_size.h"
#include "base/clock.h"

namespace mixserve::app {
namespace {

constexpr double bar_interval_s = 0.1;
constexpr double line_interval_s = 30.0;
constexpr int64_t bar_width = 30;

}  // namespace

ByteProgress::ByteProgress(std::string label, int64_t total_bytes)
    : label_(std::move(label)),
      total_bytes_(std::max<int64_t>(1, total_bytes)),
      start_s_(now_s()),
      shown_s_(start_s_),
      terminal_(::isatty(STDERR_FILENO) == 1) {}

ByteProgress::~ByteProgress() {
    if (bar_open_) std::fputc('\n', stderr);
}

std::string ByteProgress::numbers(int64_t done_bytes) const {
    const double seconds = std::max(1e-3, now_s() - start_s_);
    const double rate = static_cast<double>(done_bytes) / seconds;
    const double left_s = rate > 0.0 ? static_cast<double>(total_bytes_ - done_bytes) / rate : 0.0;
    return fmt::format("{:3} %  {} of {}  {}/s  {:.0f} s left", 100 * done_bytes / total_bytes_,
                       byte_size_text(done_bytes), byte_size_text(total_bytes_),
                       byte_size_text(static_cast<int64_t>(rate)), left_s);
}

void ByteProgress::update(int64_t done_bytes) {
    const double now = now_s();
    if (now - shown_s_ < (terminal_ ? bar_interval_s : line_interval_s)) return;
    shown_s_ = now;
    if (!terminal_) {
        fmt::print(stderr, "{} {}\n", label_, numbers(done_bytes));
        return;
    }
    const auto filled = static_cast<size_t>(bar_width * done_bytes / total_bytes_);
    const std::string bar = std::string(filled, '#') + std::string(bar_width - filled, ' ');
    fmt::print(stderr, "\r{} [{}] {}\x1b[K", label_, bar, numbers(done_bytes));
    std::fflush(stderr);
    bar_open_ = true;
}

void ByteProgress::finish() {
    const double seconds = std::max(1e-3, now_s() - start_s_);
    fmt::print(stderr, "{}{} {} in {:.1f} s, {}/s{}\n", bar_open_ ? "\r" : "", label_,
               byte_size_text(total_bytes_), seconds,
               byte_size_text(static_cast<int64_t>(static_cast<double>(total_bytes_) / seconds)),
               bar_open_ ? "\x1b[K" : "");
    bar_open_ = false;
}

}  // namespace mixserve::app
