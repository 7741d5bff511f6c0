#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace mixserve::io {

/// How far a job is.
struct ProgressState {
    int64_t n_done = 0;   // rows
    int64_t n_total = 0;  // 0: not known
    int64_t n_failed = 0;
    int64_t n_tokens = 0;  // prefilled and generated
};

/// Tells how far a job is: on a terminal a bar that is redrawn, elsewhere a plain line every 30 s. Rates are
/// over the last minute.
class Progress {
  public:
    using Sink = std::function<void(std::string_view)>;

    /// Writes to stderr.
    Progress();
    /// `width`: columns of the terminal; lines are cut to it.
    Progress(bool is_terminal, Sink sink, int width = 120);

    /// To be called often; writes only when it is time to. `time_s` on any clock that rises.
    void update(const ProgressState& state, double time_s);
    /// The last line, whenever the one before was.
    void finish(const ProgressState& state, double time_s);

  private:
    struct Sample {
        double time_s;
        int64_t n_done;
        int64_t n_tokens;
    };
    void begin(const ProgressState& state, double time_s);
    void write(const ProgressState& state, const std::string& text);

    bool is_terminal_;
    Sink sink_;
    int width_;
    std::deque<Sample> samples_;  // of the last minute, a second or more apart
    std::optional<Sample> start_;
    double written_s_ = 0;
};

/// "1,234 of 10,000 prompts (12 %), 34.1 rows/s, 5,120 tokens/s, 4 min 17 s left".
std::string progress_text(const ProgressState& state, double rows_per_s, double tokens_per_s);

}  // namespace mixserve::io
