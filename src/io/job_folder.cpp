#include "io/job_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <deque>
#include <filesystem>
#include <numeric>

#include "base/error.h"
#include "io/distribution.h"
#include "io/json_lines.h"
#include "io/output_folder.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;

constexpr double silent_after_s = 300;
constexpr double recent_s = 60;
constexpr int64_t max_ranks = int64_t{1} << 20;

/// Seconds since the epoch at which the file was written last; 0 where it is missing.
double written_at(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return 0;
    return static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
}

/// A member that may be missing or null, as JSON has no NaN.
template <class T>
T get_or(const json& object, const char* key, T otherwise) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? otherwise : found->get<T>();
}

const json& child(const json& object, const char* key) {
    static const json none = json::object();
    const auto found = object.find(key);
    return found == object.end() || !found->is_object() ? none : *found;
}

std::optional<ExpertLoad> read_expert_load(const json& object) {
    const json& load = child(object, "expert_load");
    if (load.empty()) return std::nullopt;
    return ExpertLoad{load.at("experts_max_over_mean").get<double>(),
                      load.at("parts_max_over_mean").get<double>(), load.at("worst_layer").get<int64_t>(),
                      load.at("worst_expert").get<int64_t>(), load.at("worst_max_over_mean").get<double>()};
}

std::optional<LatencyFigures> figures_of(const Distribution& d) {
    if (d.count() == 0) return std::nullopt;
    return LatencyFigures{d.count(), d.mean(), d.percentile(0.5), d.percentile(0.99)};
}

/// generations.jsonl or scores.jsonl.
void read_rows(const std::string& path, JobReport& report) {
    static constexpr std::array<std::string_view, 6> unread{"token_ids", "text",     "logprobs",
                                                            "choices",   "messages", "prompt_logprobs"};
    Distribution ttft;
    Distribution itl;
    Distribution e2el;
    ErrorCauses causes;
    const JsonLinesRead read = read_json_lines(path, unread, [&](const json& row) {
        ++report.n_rows;
        const auto error = row.find("error");
        if (error != row.end() && !error->is_null()) {
            ++report.n_failed;
            const json& id = row.contains("custom_id") ? row["custom_id"] : row.value("id", json());
            causes.add(
                error->is_string() ? error->get<std::string>() : get_or(*error, "message", error->dump()),
                id.is_string() ? id.get<std::string>() : id.dump());
            return;
        }
        const json& usage =
            row.contains("response") ? child(child(row["response"], "body"), "usage") : child(row, "usage");
        report.n_input_tokens += get_or<int64_t>(usage, "prompt_tokens", 0);
        report.n_output_tokens += get_or<int64_t>(usage, "completion_tokens", 0);
        const json& metrics = child(row, "metrics");
        if (metrics.empty()) return;
        ttft.add(get_or<double>(metrics, "ttft_ms", 0));
        e2el.add(get_or<double>(metrics, "e2e_ms", 0));
        if (get_or<int64_t>(usage, "completion_tokens", 0) > 1)
            itl.add(get_or<double>(metrics, "itl_ms_mean", 0));
    });
    if (read.is_torn) report.notes.push_back(fs::path(path).filename().string() + " ends within a row");
    report.ttft = figures_of(ttft);
    report.itl = figures_of(itl);
    report.e2el = figures_of(e2el);
    report.errors = causes.sorted();
}

/// Adds up steps.jsonl.
class StepSums {
  public:
    explicit StepSums(JobReport& report) : report_(report) {}

    void add(const json& step) {
        const auto time_s = step.at("time_s").get<double>();
        ++report_.n_steps;
        report_.elapsed_s = time_s;  // goes on where a job is resumed
        report_.n_step_tokens +=
            step.at("prefill_tokens").get<int64_t>() + step.at("decode_tokens").get<int64_t>();
        add_recent();
        const json& phases = child(step, "phases");
        for (size_t phase = 0; phase < n_phases; ++phase) {
            const json& spread = child(phases, std::string(name(static_cast<Phase>(phase))).c_str());
            report_.phase_seconds[phase] += get_or<double>(spread, "mean_ms", 0) / 1e3;
        }
        if (step.contains("busy")) add_busy(step);
        if (auto load = read_expert_load(step)) report_.expert_load = load;
    }

    void finish() {
        if (recent_.size() > 1 && recent_.back().time_s > recent_.front().time_s) {
            report_.recent_tokens_per_s =
                static_cast<double>(recent_.back().n_tokens - recent_.front().n_tokens) /
                (recent_.back().time_s - recent_.front().time_s);
        }
        const auto slowest = std::max_element(ranks_.begin(), ranks_.end(), [](const Slow& a, const Slow& b) {
            return a.excess_s < b.excess_s;
        });
        if (slowest == ranks_.end()) return;
        report_.slowest_rank = slowest - ranks_.begin();
        report_.slowest_excess_s = slowest->excess_s;
        report_.slowest_steps_share =
            static_cast<double>(slowest->n_steps) / static_cast<double>(report_.n_steps);
    }

  private:
    struct Sample {
        double time_s;
        int64_t n_tokens;
    };
    struct Slow {
        double excess_s = 0;
        int64_t n_steps = 0;
    };

    void add_recent() {
        const double now_s = report_.elapsed_s;
        if (recent_.empty() || now_s - recent_.back().time_s >= 1) {
            recent_.push_back({now_s, report_.n_step_tokens});
        } else if (recent_.size() > 1) {
            recent_.back() = {now_s, report_.n_step_tokens};
        }
        while (recent_.size() > 2 && now_s - recent_[1].time_s >= recent_s)
            recent_.pop_front();
    }

    void add_busy(const json& step) {
        const json& busy = step["busy"];
        const double mean_s = busy.at("mean_ms").get<double>() / 1e3;
        const double max_s = busy.at("max_ms").get<double>() / 1e3;
        report_.busy_mean_s += mean_s;
        report_.busy_max_s += max_s;
        const auto rank = step.at("slowest_rank").get<int64_t>();
        require(rank >= 0 && rank < max_ranks, "'{}/steps.jsonl' names rank {}", report_.folder, rank);
        if (static_cast<size_t>(rank) >= ranks_.size()) ranks_.resize(static_cast<size_t>(rank) + 1);
        ranks_[static_cast<size_t>(rank)].excess_s += max_s - mean_s;
        ++ranks_[static_cast<size_t>(rank)].n_steps;
    }

    JobReport& report_;

    std::deque<Sample> recent_;  // a second or more apart
    std::vector<Slow> ranks_;
};

std::optional<LatencyFigures> summary_figures(const json& summary, const std::string& key, int64_t count) {
    if (!summary.contains("mean_" + key)) return std::nullopt;
    return LatencyFigures{count, summary.at("mean_" + key).get<double>(),
                          summary.at("median_" + key).get<double>(), summary.at("p99_" + key).get<double>()};
}

void read_summary(const std::string& path, JobReport& report) {
    const json summary = read_json_file(path);
    try {
        const auto status = get_or<std::string>(summary, "status", "finished");
        report.state = status == "finished" ? JobState::finished : JobState::stopped;
        if (summary.contains("perplexity")) report.perplexity = get_or<double>(summary, "perplexity", 0);
        const auto n_completed = summary.at("completed").get<int64_t>();
        report.elapsed_s = summary.at("duration").get<double>();
        report.n_input_tokens = get_or(summary, "total_input_tokens", report.n_input_tokens);
        report.n_output_tokens = get_or(summary, "total_output_tokens", report.n_output_tokens);
        if (auto load = read_expert_load(summary)) report.expert_load = load;
        // The latencies of a resumed job are those of its last start; the rows know more.
        if (report.command == "score" || n_completed == 0 || report.n_starts > 1) return;
        report.ttft = summary_figures(summary, "ttft_ms", n_completed);
        report.itl = summary_figures(summary, "itl_ms", n_completed);
        report.e2el = summary_figures(summary, "e2el_ms", n_completed);
    } catch (const json::exception& e) {
        fail("'{}' is not what a job writes: {}", path, e.what());
    }
}

/// What run.json says, but for the number of prompts.
json read_run_facts(const std::string& folder, JobReport& report) {
    const std::string path = folder + "/run.json";
    require(fs::is_directory(folder), "'{}' is no folder", folder);
    require(fs::exists(path), "'{}' has no run.json: it is not the output folder of a job", folder);
    json run = read_json_file(path);
    try {
        const json& options = child(run, "options");
        const json& topology = child(run, "topology");
        report.command = run.at("command").get<std::string>();
        report.model = fs::path(get_or<std::string>(options, "model", "")).stem().string();
        report.strategy = get_or<std::string>(options, "strategy", "");
        report.n_nodes = get_or<int64_t>(topology, "nodes", 0);
        report.n_ranks = get_or<int64_t>(topology, "world_size", 0);
        if (const auto starts = run.find("starts"); starts != run.end())
            report.n_starts = static_cast<int64_t>(starts->size());
    } catch (const json::exception& e) {
        fail("'{}' is not what a job writes: {}", path, e.what());
    }
    return run;
}

std::optional<int64_t> n_prompts_of(const json& run, const JobReport& report) {
    if (report.state == JobState::finished) return report.n_rows;
    const json& input = child(run, "input");
    if (!input.contains("n_in_shard")) return std::nullopt;
    return input["n_in_shard"].get<int64_t>();
}

}  // namespace

std::string_view name(JobState state) {
    constexpr std::array<std::string_view, 4> names{"finished", "stopped", "running", "silent"};
    return names[static_cast<size_t>(state)];
}

std::optional<double> JobReport::left_s() const {
    if (state == JobState::finished || !n_prompts || *n_prompts <= n_rows || rows_per_s() <= 0)
        return std::nullopt;
    return static_cast<double>(*n_prompts - n_rows) / rows_per_s();
}

JobReport read_job_folder(const std::string& folder) {
    JobReport report;
    report.folder = folder;
    const json run = read_run_facts(folder, report);
    const std::string rows = folder + "/" + rows_file_name(report.command == "score");
    const std::string steps = folder + "/steps.jsonl";
    const std::string summary = folder + "/summary.json";
    // Looked at first: what is written while the files are read is then not missed.
    const double last_written_s =
        std::max({written_at(folder + "/run.json"), written_at(rows), written_at(steps)});
    const bool has_summary =
        written_at(summary) > 0 && written_at(summary) >= written_at(folder + "/run.json");

    if (fs::exists(rows)) read_rows(rows, report);
    if (fs::exists(steps)) {
        StepSums sums(report);
        const JsonLinesRead read = read_json_lines(steps, {}, [&](const json& step) { sums.add(step); });
        if (read.is_torn) report.notes.emplace_back("steps.jsonl ends within a line");
        sums.finish();
    }
    report.quiet_s = std::max(0.0, static_cast<double>(std::time(nullptr)) - last_written_s);
    report.state = report.quiet_s > silent_after_s ? JobState::silent : JobState::running;
    if (has_summary) read_summary(summary, report);
    report.n_prompts = n_prompts_of(run, report);
    return report;
}

}  // namespace mixserve::io
