#include "io/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "io/number_text.h"

namespace mixserve::io {
namespace {

constexpr double redraw_s = 0.2;
constexpr double plain_line_s = 30;
constexpr double window_s = 60;
constexpr double sample_s = 1;

int terminal_width() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

double share_done(const ProgressState& state) {
    if (state.n_total <= 0) return 0;
    return std::min(1.0, static_cast<double>(state.n_done) / static_cast<double>(state.n_total));
}

std::string bar_of(const ProgressState& state) {
    constexpr size_t width = 20;
    const auto n_full = static_cast<size_t>(share_done(state) * width);
    return fmt::format("[{}{}]", std::string(n_full, '#'), std::string(width - n_full, '.'));
}

std::string counts_text(const ProgressState& state) {
    std::string text = grouped(state.n_done);
    if (state.n_total > 0)
        fmt::format_to(std::back_inserter(text), " of {} prompts ({:.0f} %)", grouped(state.n_total),
                       100 * share_done(state));
    else
        text += " prompts";
    if (state.n_failed > 0) fmt::format_to(std::back_inserter(text), ", {} failed", grouped(state.n_failed));
    return text;
}

std::string rates_text(double rows_per_s, double tokens_per_s) {
    return fmt::format(", {} rows/s, {} tokens/s", rate_text(rows_per_s), rate_text(tokens_per_s));
}

}  // namespace

std::string progress_text(const ProgressState& state, double rows_per_s, double tokens_per_s) {
    std::string text = counts_text(state) + rates_text(rows_per_s, tokens_per_s);
    if (state.n_total > state.n_done && rows_per_s > 0) {
        const double left_s = static_cast<double>(state.n_total - state.n_done) / rows_per_s;
        fmt::format_to(std::back_inserter(text), ", {} left", duration_text(left_s));
    }
    return text;
}

Progress::Progress()
    : Progress(
          ::isatty(STDERR_FILENO) == 1,
          [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }, terminal_width()) {
}

Progress::Progress(bool is_terminal, Sink sink, int width)
    : is_terminal_(is_terminal), sink_(std::move(sink)), width_(width) {}

void Progress::begin(const ProgressState& state, double time_s) {
    start_ = Sample{time_s, state.n_done, state.n_tokens};
    samples_.push_back(*start_);
    // The first plain line after a short while, so that a job is seen to move.
    written_s_ = is_terminal_ ? time_s - redraw_s : time_s - plain_line_s + 5;
}

void Progress::update(const ProgressState& state, double time_s) {
    if (!start_) begin(state, time_s);
    if (time_s - samples_.back().time_s >= sample_s)
        samples_.push_back({time_s, state.n_done, state.n_tokens});
    while (samples_.size() > 2 && time_s - samples_[1].time_s >= window_s)
        samples_.pop_front();
    if (time_s - written_s_ < (is_terminal_ ? redraw_s : plain_line_s)) return;
    written_s_ = time_s;
    const Sample& from = samples_.front();
    const double elapsed_s = std::max(time_s - from.time_s, 1e-9);
    write(state, progress_text(state, static_cast<double>(state.n_done - from.n_done) / elapsed_s,
                               static_cast<double>(state.n_tokens - from.n_tokens) / elapsed_s));
}

void Progress::finish(const ProgressState& state, double time_s) {
    if (!start_) begin(state, time_s);
    const double elapsed_s = std::max(time_s - start_->time_s, 1e-9);
    write(state, counts_text(state) +
                     rates_text(static_cast<double>(state.n_done - start_->n_done) / elapsed_s,
                                static_cast<double>(state.n_tokens - start_->n_tokens) / elapsed_s) +
                     ", in " + duration_text(elapsed_s));
    if (is_terminal_) sink_("\n");
}

void Progress::write(const ProgressState& state, const std::string& text) {
    if (!is_terminal_) {
        sink_(text + "\n");
        return;
    }
    std::string line = state.n_total > 0 ? bar_of(state) + " " + text : text;
    line.resize(std::min(line.size(), static_cast<size_t>(std::max(width_ - 1, 1))));
    sink_("\r" + line + "\x1b[K");
}

}  // namespace mixserve::io
