#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/feed.h"
#include "engine/served_request.h"
#include "engine/step_recorder.h"
#include "io/progress.h"
#include "io/prompts.h"
#include "io/row_writer.h"
#include "io/rows.h"
#include "io/step_log.h"
#include "io/summary.h"
#include "io/trace.h"

namespace mixserve::engine {

/// Turns a parsed line into tokens. Throws Error when the line cannot be served: its text becomes the line's
/// error row.
using Prepare = std::function<PreparedRequest(io::Request)>;

/// What the input and the output of a job are.
struct JobSetup {
    std::string input_file;
    std::string output_dir;  // prepared: it is there and empty
    io::SamplingDefaults defaults;
    io::PromptLimits limits;
    bool scores = false;  // scores.jsonl, else generations.jsonl
    bool tracing = false;
    io::RowContext rows;
    Prepare prepare;
    std::vector<io::TraceRank> ranks;
    int64_t num_experts = 1;
    std::vector<Range> expert_parts{};  // see io::expert_load_of
};

/// A job as world rank 0 has it: a thread reads and tokenizes the input ahead of the step loop, a bounded
/// number of prompts; rows are written as they come; steps, trace and figures are kept. Nothing grows with
/// the input.
class Job : public FeedRoot, public StepSink {
  public:
    explicit Job(JobSetup setup);
    ~Job() override;

    std::optional<FeedItem> poll() override;
    bool at_end() override;
    void wait() override;
    void accept(std::vector<std::byte> finished) override;

    void take_step(std::span<const StepSample> ranks, std::span<const int64_t> expert_counts) override;
    void take_spans(int rank, std::span<const TraceSpan> spans) override;

    /// After the last step: ends the progress line and the trace; what is left is the summary.
    void finish();
    const io::RunStatistics& statistics() const { return statistics_; }
    double duration_s() const { return duration_s_; }
    /// Summed over steps, mean over ranks.
    const std::array<double, n_phases>& phase_seconds() const { return phase_seconds_; }
    /// Of each rank.
    const std::vector<io::PhaseSeconds>& rank_phase_seconds() const { return rank_phase_seconds_; }
    /// Of all steps together.
    std::optional<io::ExpertLoad> expert_load() const;

  private:
    struct Ready {
        std::optional<FeedItem> item;
        std::optional<io::Request> failed;  // a line that cannot be served; `error` says why
    };
    void read_ahead();
    void push(Ready ready);
    Ready prepare(io::Request request) const;
    void write_failed(const io::Request& request);
    void wrote_row();

    JobSetup setup_;
    io::RowWriter rows_;
    io::StepLog step_log_;
    std::optional<io::TraceWriter> trace_;
    io::RunStatistics statistics_;
    io::Progress progress_;
    io::ProgressState progress_state_;
    double started_s_ = 0;
    double duration_s_ = 0;
    std::array<double, n_phases> phase_seconds_{};
    std::vector<io::PhaseSeconds> rank_phase_seconds_;
    std::vector<int64_t> expert_counts_;                // [layers, num_experts]
    std::vector<std::optional<double>> clock_offsets_;  // of each rank's first span

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Ready> ready_;
    bool end_of_input_ = false;
    bool abandoned_ = false;
    std::exception_ptr reader_error_;
    std::thread reader_;
};

}  // namespace mixserve::engine
