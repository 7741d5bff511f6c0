#include "app/job_place.h"

#include <filesystem>

#include "app/provenance.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text_file.h"
#include "io/digest.h"
#include "io/row_scan.h"
#include "io/row_writer.h"
#include "io/step_scan.h"

namespace mixserve::app {
namespace {

ordered_json to_json(const io::SamplingDefaults& defaults) {
    ordered_json j;
    if (defaults.max_tokens) j["max-tokens"] = *defaults.max_tokens;
    j["temperature"] = defaults.params.temperature;
    j["top-p"] = defaults.params.top_p;
    j["top-k"] = defaults.params.top_k;
    j["min-p"] = defaults.params.min_p;
    j["repetition-penalty"] = defaults.params.repetition_penalty;
    return j;
}

std::string absolute(const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
}

std::string text_of(const io::Shard& shard) {
    return fmt::format("{}/{}", shard.index, shard.count);
}

ordered_json options_json(const EngineOptions& options, const JobOptions& job,
                          const io::SamplingDefaults& defaults, bool scores) {
    ordered_json all = to_json(options);
    all["input-file"] = absolute(job.input_file);
    all["output-dir"] = absolute(job.output_dir);
    all["strict"] = job.strict;
    all["trace"] = job.tracing;
    all["trace-routing"] = job.tracing_routing;
    all["watchdog-timeout"] = job.watchdog_timeout_s;
    all["chat-template"] = job.chat_template_file.empty() ? "" : absolute(job.chat_template_file);
    all["shard"] = text_of(job.shard);
    all["sync-interval"] = job.sync_interval_s;
    if (!scores) all.update(to_json(defaults));
    return all;
}

/// What rows depend on. Not how the work is spread: ranks, strategy, threads and batch limits are free.
ordered_json identity_json(const EngineOptions& options, const JobOptions& job,
                           const io::SamplingDefaults& defaults, const OpenModel& model,
                           const io::InputFacts& input, bool scores) {
    ordered_json identity{{"command", scores ? "score" : "run"},
                          {"model", model.digest()},
                          {"input-file", input.digest},
                          {"shard", text_of(job.shard)}};
    identity.update(identity_of(options));
    identity["chat-template"] = job.chat_template_file.empty()
                                    ? ordered_json()
                                    : ordered_json(io::text_digest(read_text_file(job.chat_template_file)));
    if (scores) {
        if (!options.dummy) identity.erase("seed");
        return identity;
    }
    identity["max-tokens"] = nullptr;
    identity.update(to_json(defaults));
    return identity;
}

/// run.json of the start before; null at the first.
ordered_json read_earlier(const io::OutputFolder& folder) {
    return folder.has_job() ? read_run_json(folder.file("run.json")) : ordered_json();
}

/// Whether the earlier start was of the same job; refuses to go on with rows of another one, unless told.
bool is_same(const JobOptions& job, const ordered_json& identity, const ordered_json& earlier) {
    const std::string different = difference(identity, earlier.value("identity", ordered_json::object()));
    if (different.empty()) return true;
    require_usage(
        job.resume_anyway,
        "--resume: this is not the job that made the rows in '{}': {}. Give another --output-dir, or "
        "--resume-anyway to mix them",
        job.output_dir, different);
    spdlog::warn("the rows in '{}' are of another job: {}", job.output_dir, different);
    return false;
}

std::optional<std::time_t> first_started(const ordered_json& earlier) {
    if (earlier.is_null()) return std::nullopt;
    const ordered_json starts = earlier.value("starts", ordered_json::array());
    if (starts.empty() || !starts.front().contains("started_unix_s")) return std::nullopt;
    return starts.front()["started_unix_s"].get<std::time_t>();
}

engine::JobHistory read_history(const io::OutputFolder& folder, const ordered_json& earlier, bool scores) {
    engine::JobHistory history;
    if (earlier.is_null()) return history;
    history.n_starts = static_cast<int64_t>(earlier.value("starts", ordered_json::array()).size());
    history.steps = io::scan_steps(folder.file("steps.jsonl"));
    const std::string rows = folder.file(io::rows_file_name(scores));
    if (std::filesystem::exists(rows)) history.rows = io::index_rows(rows, history.index);
    if (history.rows.n_torn_bytes > 0)
        spdlog::warn("'{}' ends in {} bytes of a torn row, which are cut off", rows,
                     history.rows.n_torn_bytes);
    return history;
}

}  // namespace

JobPlace open_job_place(const EngineOptions& options, const JobOptions& job,
                        const io::SamplingDefaults& defaults, const OpenModel& model, RunRecord record) {
    const bool scores = record.command == "score";
    io::OutputFolder folder = io::OutputFolder::open(job.output_dir, job.resume, lock_holder());
    const ordered_json earlier = read_earlier(folder);
    const io::InputFacts input = io::scan_input(job.input_file, job.shard);
    record.identity = identity_json(options, job, defaults, model, input, scores);
    engine::JobHistory history = read_history(folder, earlier, scores);
    record.n_rows_before = history.rows.totals.n_rows();
    // A start that made no row is in nobody's way.
    const bool goes_on = record.n_rows_before > 0 && is_same(job, record.identity, earlier);
    JobPlace place{std::move(folder), input, std::move(history), first_started(earlier),
                   goes_on && record.n_rows_before >= input.n_in_shard};
    if (place.complete) return place;

    record.options = options_json(options, job, defaults, scores);
    record.sampling_defaults = to_json(defaults);
    record.model["digest"] = record.identity["model"];
    record.input = {{"n_bytes", input.n_bytes},
                    {"digest", input.digest},
                    {"n_prompts", input.n_prompts},
                    {"n_in_shard", input.n_in_shard}};
    if (place.history.n_starts > 0) {
        spdlog::info("going on with {}: {} of {} prompts have their row", job.output_dir,
                     record.n_rows_before, input.n_in_shard);
    }
    io::write_file_atomically(place.folder.file("run.json"), to_json(record, earlier).dump(2) + "\n");
    // It was of fewer rows than there will be.
    std::filesystem::remove(place.folder.file("summary.json"));
    return place;
}

}  // namespace mixserve::app
