#include "io/merge.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "app/command.h"
#include "app/options.h"
#include "app/provenance.h"
#include "app/run_record.h"
#include "base/error.h"
#include "base/utf8.h"
#include "io/file_lock.h"
#include "io/output_folder.h"

namespace mixserve::app {
namespace {

namespace fs = std::filesystem;

/// The folders of the jobs, which nobody writes to while the object lives.
struct Sources {
    std::vector<std::string> folders;
    std::vector<io::FileLock> locks;
    std::vector<ordered_json> runs;  // run.json of each
    bool scores = false;
};

Sources open_sources(const std::vector<std::string>& folders) {
    Sources sources;
    for (const std::string& folder : folders) {
        require_usage(fs::is_directory(folder), "'{}' is not a folder", folder);
        sources.locks.push_back(io::FileLock::look(folder + "/" + io::lock_file_name));
        ordered_json run = read_run_json(folder + "/run.json");
        require_usage(run.contains("identity"), "'{}' is not the output of `run` or `score`", folder);
        const std::string different =
            sources.runs.empty() ? ""
                                 : difference(run["identity"], sources.runs.front()["identity"], "shard");
        require_usage(different.empty(), "'{}' and '{}' are not shards of one job: {}", folders.front(),
                      folder, different);
        sources.folders.push_back(folder);
        sources.runs.push_back(std::move(run));
    }
    sources.scores = sources.runs.front().value("command", "") == "score";
    return sources;
}

io::MergeInput input_of(const ordered_json& run, const std::string& input_file) {
    io::MergeInput input;
    input.input_file = input_file.empty() ? run["options"].at("input-file").get<std::string>() : input_file;
    input.digest = run.at("input").at("digest");
    const ordered_json& defaults = run.at("sampling_defaults");
    if (defaults.contains("max-tokens")) input.defaults.max_tokens = defaults["max-tokens"].get<int64_t>();
    io::SamplingParams& params = input.defaults.params;
    params.temperature = defaults.at("temperature");
    params.top_p = defaults.at("top-p");
    params.top_k = defaults.at("top-k");
    params.min_p = defaults.at("min-p");
    params.repetition_penalty = defaults.at("repetition-penalty");
    input.limits.vocab_size = run.at("model").at("vocab_size").get<int64_t>();
    return input;
}

void print_names(int64_t n, const char* what, const std::vector<io::PromptName>& names) {
    if (n == 0) return;
    std::string list;
    for (const io::PromptName& name : names) {
        list += list.empty() ? " " : ", ";
        list += in_quotes(name.id);
        if (name.line > 0) list += fmt::format(" (line {})", name.line);
    }
    fmt::print(stderr, "mixserve: {} {}:{}{}\n", n, what, list,
               n > static_cast<int64_t>(names.size()) ? ", ..." : "");
}

ordered_json summary_json(const io::MergeReport& report, bool scores, size_t n_folders) {
    const io::RowTotals& t = report.totals;
    ordered_json summary{{"completed", t.n_completed},
                         {"failed", t.n_failed},
                         {"total_input_tokens", t.n_input_tokens},
                         {"total_output_tokens", t.n_output_tokens}};
    if (scores && t.n_logprobs > 0)
        summary["perplexity"] = std::exp(-t.sum_logprobs / static_cast<double>(t.n_logprobs));
    summary["merged_folders"] = n_folders;
    summary["missing"] = report.n_missing;
    return summary;
}

ordered_json merge_json(const Sources& sources, const io::MergeInput& input, const std::string& output_dir) {
    ordered_json j{{"program", "mixserve"}};
    j["version"] = build_json()["version"];
    j["command"] = "merge";
    j["started_unix_s"] = std::time(nullptr);
    j["options"] = {{"input-file", input.input_file}, {"output-dir", output_dir}};
    j["build"] = build_json();
    j["slurm"] = slurm_json();
    ordered_json& merged = j["merged"] = ordered_json::array();
    for (size_t i = 0; i < sources.folders.size(); ++i)
        merged.push_back({{"folder", fs::absolute(sources.folders[i]).lexically_normal().string()},
                          {"run", sources.runs[i]}});
    return j;
}

}  // namespace

int run_merge(Arguments arguments) {
    po::options_description options;
    options.add_options()("positional", po::value<std::vector<std::string>>()->required(), "D...")(
        "output-dir", po::value<std::string>()->value_name("E")->required(), "a folder that is new or empty")(
        "input-file", po::value<std::string>()->value_name("P.jsonl")->default_value(""),
        "where the jobs' input is now; by default where it was")(
        "partial", po::bool_switch(),
        "write what there is, each prompt's first row, also where rows are missing or doubled");
    po::variables_map values;
    if (!parse_options("merge", options, arguments, values)) return exit_ok;
    const bool partial = values["partial"].as<bool>();

    const Sources sources = open_sources(values["positional"].as<std::vector<std::string>>());
    const io::MergeInput input = input_of(sources.runs.front(), values["input-file"].as<std::string>());
    const io::OutputFolder folder =
        io::OutputFolder::open(values["output-dir"].as<std::string>(), false, lock_holder());
    const std::string rows_name = io::rows_file_name(sources.scores);
    std::vector<std::string> row_files;
    for (const std::string& source : sources.folders)
        row_files.push_back(std::filesystem::path(source) / rows_name);

    const std::string rows_path = folder.file(rows_name);
    io::RowWriter writer = io::RowWriter::create(rows_path + ".part");
    const io::MergeReport report = io::merge_rows(input, row_files, writer);
    writer.sync();
    print_names(report.n_missing, "prompts have no row", report.missing);
    print_names(report.n_doubled, "prompts have more than one row", report.doubled);
    print_names(report.n_foreign, "rows are of no prompt of the input", report.foreign);
    if (!report.whole() && !partial) {
        fs::remove(rows_path + ".part");
        fmt::print(
            stderr,
            "mixserve: nothing was written; complete the jobs with --resume, or merge with --partial\n");
        return exit_failure;
    }
    fs::rename(rows_path + ".part", rows_path);
    io::write_file_atomically(folder.file("run.json"),
                              merge_json(sources, input, folder.path()).dump(2) + "\n");
    io::write_file_atomically(folder.file("summary.json"),
                              summary_json(report, sources.scores, sources.folders.size()).dump(2) + "\n");
    fmt::print("{}: {} rows of {} prompts, from {} folders\n", rows_path, report.totals.n_rows(),
               report.n_prompts, sources.folders.size());
    return report.whole() ? exit_ok : exit_failure;
}

}  // namespace mixserve::app
