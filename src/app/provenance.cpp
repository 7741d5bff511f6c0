#include "app/provenance.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <utility>

#include "app/build_info.h"
#include "comm/communicator.h"
#include "io/library_version.h"

namespace mixserve::app {
namespace {

// "model name" on x86; where /proc/cpuinfo has none, what there is instead.
std::string cpu_model() {
    std::ifstream in("/proc/cpuinfo");
    std::string line;
    std::string other;
    while (std::getline(in, line)) {
        const size_t colon = line.find(": ");
        if (colon == std::string::npos) continue;
        std::string value = line.substr(colon + 2);
        if (line.starts_with("model name") || line.starts_with("cpu\t")) return value;
        if (line.starts_with("CPU implementer") || line.starts_with("CPU part"))
            other += (other.empty() ? "implementer " : " part ") + value;
        if (line.starts_with("CPU part")) return other;
    }
    return "unknown";
}

std::string host_name() {
    std::array<char, 256> name{};
    gethostname(name.data(), name.size() - 1);
    return name.data();
}

}  // namespace

ordered_json build_json() {
    ordered_json libraries{{"MPI", comm::Runtime::library_version()}, {"HDF5", io::hdf5_version()}};
    for (const BuildInfo::Library* library = build_info.libraries; library->name != nullptr; ++library)
        libraries[library->name] = library->version;
    return {{"version", build_info.version},       {"git_revision", build_info.git_revision},
            {"git_dirty", build_info.git_dirty},   {"compiler", build_info.compiler},
            {"build_type", build_info.build_type}, {"flags", build_info.flags},
            {"libraries", std::move(libraries)}};
}

std::string build_text() {
    std::string text = fmt::format("git revision {}{}\ncompiler {}, {}, flags {}\n", build_info.git_revision,
                                   build_info.git_dirty ? " with changes" : "", build_info.compiler,
                                   build_info.build_type, build_info.flags);
    const ordered_json build = build_json();
    for (const auto& [name, version] : build["libraries"].items())
        text += fmt::format("{} {}\n", name, version.get<std::string>());
    return text;
}

ordered_json slurm_json() {
    constexpr std::array<std::pair<const char*, const char*>, 9> variables{
        {{"job_id", "SLURM_JOB_ID"},
         {"step_id", "SLURM_STEP_ID"},
         {"array_job_id", "SLURM_ARRAY_JOB_ID"},
         {"array_task_id", "SLURM_ARRAY_TASK_ID"},
         {"restart_count", "SLURM_RESTART_COUNT"},
         {"job_name", "SLURM_JOB_NAME"},
         {"cluster", "SLURM_CLUSTER_NAME"},
         {"partition", "SLURM_JOB_PARTITION"},
         {"nodes", "SLURM_JOB_NODELIST"}}};
    ordered_json slurm = ordered_json::object();
    for (const auto& [key, variable] : variables) {
        if (const char* value = std::getenv(variable)) slurm[key] = value;
    }
    return slurm;
}

ordered_json cpus_json(const comm::Topology& topology) {
    const ordered_json own{{"model", cpu_model()}, {"cores", std::thread::hardware_concurrency()}};
    const std::vector<std::string> of_rank = topology.world.all_gather(own.dump());
    ordered_json cpus = ordered_json::array();
    for (size_t rank = 0; rank < of_rank.size(); ++rank) {
        ordered_json cpu = ordered_json::parse(of_rank[rank]);
        auto same = std::find_if(cpus.begin(), cpus.end(), [&](const ordered_json& seen) {
            return seen["model"] == cpu["model"] && seen["cores"] == cpu["cores"];
        });
        if (same == cpus.end()) {
            cpu["hosts"] = ordered_json::array();
            cpus.push_back(std::move(cpu));
            same = cpus.end() - 1;
        }
        ordered_json& hosts = (*same)["hosts"];
        if (std::find(hosts.begin(), hosts.end(), topology.hosts[rank]) == hosts.end())
            hosts.push_back(topology.hosts[rank]);
    }
    return cpus;
}

ordered_json lock_holder() {
    ordered_json holder{{"host", host_name()}, {"pid", getpid()}};
    const ordered_json slurm = slurm_json();
    if (slurm.contains("job_id")) holder["slurm_job_id"] = slurm["job_id"];
    if (slurm.contains("restart_count")) holder["slurm_restart_count"] = slurm["restart_count"];
    return holder;
}

}  // namespace mixserve::app
