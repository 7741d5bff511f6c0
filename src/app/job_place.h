#pragma once

#include <ctime>
#include <optional>
#include <string>

#include "app/engine_options.h"
#include "app/run_record.h"
#include "engine/job.h"
#include "io/output_folder.h"
#include "io/prompts.h"

namespace mixserve::app {

/// The options of a job beside those of the engine.
struct JobOptions {
    std::string input_file;
    std::string output_dir;
    std::string chat_template_file;  // "": the model's own
    bool strict = false;
    bool tracing = false;
    bool tracing_routing = false;
    bool resume = false;
    bool resume_anyway = false;  // also where another start's rows may have come out differently
    io::Shard shard;
    double sync_interval_s = 0;
    double watchdog_timeout_s = 0;  // 0: no watchdog
};

/// The output folder and what is in it, on world rank 0.
struct JobPlace {
    io::OutputFolder folder;  // locked
    io::InputFacts input;
    engine::JobHistory history;
    std::optional<std::time_t> first_started_unix_s;  // of the first start, where this is a later one
    bool complete = false;                            // an earlier start has made all rows
};

/// Takes the output folder, checks that an earlier start there was of the same job, reads what it left, and
/// writes run.json; all but the first of these change nothing there. `record`: what is known of the job so
/// far; the rest is filled in. UsageError where the folder is refused.
JobPlace open_job_place(const EngineOptions& options, const JobOptions& job,
                        const io::SamplingDefaults& defaults, const OpenModel& model, RunRecord record);

}  // namespace mixserve::app
