#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/phase.h"
#include "io/error_causes.h"
#include "io/expert_load.h"

namespace mixserve::io {

enum class JobState : uint8_t {
    finished,  // every prompt has its row
    stopped,   // by a signal, with work left
    running,   // no summary yet, and something was written in the last minutes
    silent     // neither: killed, or in one long step
};

/// Milliseconds.
struct LatencyFigures {
    int64_t count = 0;
    double mean = 0;
    double median = 0;
    double p99 = 0;
};

/// What the output folder of a job tells.
struct JobReport {
    std::string folder;
    std::string command;  // run or score
    std::string model;
    std::string strategy;
    int64_t n_nodes = 0;
    int64_t n_ranks = 0;
    JobState state = JobState::running;
    double quiet_s = 0;  // since something was written last
    std::vector<std::string> notes;

    int64_t n_rows = 0;  // with those that failed
    int64_t n_failed = 0;
    std::optional<int64_t> n_prompts;  // of the job; nothing where run.json does not tell
    int64_t n_starts = 1;              // of which all but the first resumed the job
    double elapsed_s = 0;              // of all starts together, without loading
    int64_t n_steps = 0;
    int64_t n_input_tokens = 0;  // of rows
    int64_t n_output_tokens = 0;
    int64_t n_step_tokens = 0;       // prefilled and decoded, of rows that are not finished too
    double recent_tokens_per_s = 0;  // the same over the last minute of steps

    /// Of the whole job from summary.json, else of the rows so far; `itl` is then of each row's mean.
    std::optional<LatencyFigures> ttft;
    std::optional<LatencyFigures> itl;
    std::optional<LatencyFigures> e2el;
    std::optional<double> perplexity;

    std::array<double, n_phases> phase_seconds{};  // mean over ranks
    double busy_mean_s = 0;                        // outside of idle; of steps that tell it
    double busy_max_s = 0;                         // of each step's slowest rank
    std::optional<int64_t> slowest_rank;           // the one that was busy most beyond the mean
    double slowest_excess_s = 0;                   // by so much, in the steps where it was the slowest
    double slowest_steps_share = 0;                // of the steps
    std::optional<ExpertLoad> expert_load;         // of the whole job, else of the latest steps
    std::vector<ErrorCauses::Cause> errors;

    double rows_per_s() const { return elapsed_s > 0 ? static_cast<double>(n_rows) / elapsed_s : 0; }
    /// Nothing where the end is not in sight, or reached.
    std::optional<double> left_s() const;
};

/// Reads the folder of a job that has ended or is writing right now. Files of any length, in one pass each,
/// with memory that does not grow. Error where the folder is none of a job, or a file in it is broken (a line
/// that is being written is not).
JobReport read_job_folder(const std::string& folder);

std::string_view name(JobState state);
ordered_json to_json(const JobReport& report);

}  // namespace mixserve::io
