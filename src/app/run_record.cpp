#include "app/run_record.h"

#include <ctime>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace mixserve::app {
namespace {

std::string value_at(const ordered_json& identity, const std::string& key) {
    const auto it = identity.find(key);
    if (it == identity.end() || it->is_null()) return "not set";
    return it->is_string() ? it->get<std::string>() : it->dump();
}

}  // namespace

ordered_json to_json(const RunRecord& r, const ordered_json& earlier) {
    ordered_json j;
    j["program"] = "mixserve";
    j["version"] = r.build.at("version");
    j["command"] = r.command;
    j["started_unix_s"] = std::time(nullptr);
    j["options"] = r.options;
    j["topology"] = r.topology;
    j["model"] = r.model;
    j["input"] = r.input;
    j["sampling_defaults"] = r.sampling_defaults;
    j["identity"] = r.identity;
    j["build"] = r.build;
    j["cpus"] = r.cpus;
    j["slurm"] = r.slurm;
    j["working_directory"] = std::filesystem::current_path().string();

    ordered_json& starts = j["starts"] = ordered_json::array();
    if (earlier.is_object() && earlier.contains("starts")) starts = earlier["starts"];
    starts.push_back({{"started_unix_s", j["started_unix_s"]},
                      {"rows_before", r.n_rows_before},
                      {"version", r.build.at("version")},
                      {"git_revision", r.build.at("git_revision")},
                      {"identity", r.identity},
                      {"options", r.options},
                      {"topology", r.topology},
                      {"slurm", r.slurm}});
    return j;
}

ordered_json read_run_json(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    require_usage(static_cast<bool>(in), "cannot read {}", path);
    ordered_json record = ordered_json::parse(in, nullptr, false);
    require_usage(
        record.is_object() && record.value("program", "") == "mixserve" && record.contains("options"),
        "{} is not the run.json of a job of this program", path);
    return record;
}

std::string difference(const ordered_json& now, const ordered_json& before, const std::string& ignored_key) {
    ordered_json all = before;
    all.update(now);
    std::string text;
    for (const auto& [key, value] : all.items()) {
        const std::string value_now = value_at(now, key);
        const std::string value_before = value_at(before, key);
        if (key == ignored_key || value_now == value_before) continue;
        if (!text.empty()) text += "; ";
        text += fmt::format("{} is {} now and was {}", key, value_now, value_before);
    }
    return text;
}

}  // namespace mixserve::app
