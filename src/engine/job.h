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
#include "io/row_scan.h"
#include "io/row_writer.h"
#include "io/rows.h"
#include "io/step_log.h"
#include "io/step_scan.h"
#include "io/summary.h"
#include "io/trace.h"

namespace mixserve::engine {

/// Of a log that each start (from 1) has one of its own: "trace.json", then "trace-2.json".
std::string name_of_start(const std::string& stem, const std::string& extension, int64_t number);

/// Turns a parsed line into tokens. Throws Error when the line cannot be served: its text becomes the line's
/// error row.
using Prepare = std::function<PreparedRequest(io::Request)>;

/// What earlier starts of the job left in the output folder; all empty at the first.
struct JobHistory {
    int64_t n_starts = 0;
    io::RowIndex index;  // of the rows
    io::RowScan rows;
    io::StepScan steps;
};

/// What the input and the output of a job are.
struct JobSetup {
    std::string input_file;
    io::InputFacts input;  // of the file as it was before work started
    io::Shard shard;
    std::string output_dir;
    JobHistory before;
    double sync_interval_s = 0;  // rows are brought to the disk this often; 0: never
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
/// number of prompts; rows are written as they come; steps, trace and figures are kept. Of the input only the
/// hashes of ids stay in memory. What earlier starts left is gone on with: their rows are not made again.
class Job : public FeedRoot, public StepSink {
  public:
    explicit Job(JobSetup setup);
    ~Job() override;

    std::optional<FeedItem> poll() override;
    bool at_end() override;
    void wait() override;
    void accept(std::vector<std::byte> finished) override;

    void take_steps(std::span<const std::vector<StepSample>> of_rank,
                    std::span<const int64_t> expert_counts) override;
    void take_spans(int rank, std::span<const TraceSpan> spans) override;

    /// After the last step: ends the progress line and the trace and brings the rows to the disk; what is
    /// left is the summary. Error where the rows are no longer in their place.
    void finish();
    const io::RunStatistics& statistics() const { return statistics_; }
    /// These two of all starts together.
    double duration_s() const { return setup_.before.steps.time_s + duration_s_; }
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
    void keep_synced();
    void rethrow_sync_error();
    void stop_threads();
    void push(Ready ready);
    Ready prepare(io::Request request) const;
    void write_failed(const io::Request& request);
    void wrote_row();
    io::StepRecord record_of(std::span<const std::vector<StepSample>> of_rank, size_t step);

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
    std::exception_ptr sync_error_;
    std::thread reader_;
    std::thread syncer_;
};

}  // namespace mixserve::engine
