#include "app/backend.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "device/gpu.h"
#include "device/gpu_binding.h"

namespace mixserve::app {
namespace {

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find(' ', begin), text.size());
        parts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

/// What the ranks of this rank's host see.
device::RankGpus gpus_of_host(const device::GpuSurvey& survey, const comm::Topology& topology) {
    std::vector<std::string> own;
    for (const device::GpuProperties& gpu : survey.gpus)
        own.push_back(gpu.uuid);
    const std::vector<std::string> all = topology.world.all_gather(fmt::format("{}", fmt::join(own, " ")));
    const auto rank = static_cast<size_t>(topology.world.rank());
    device::RankGpus gpus;
    gpus.n_ranks_on_host = 0;
    for (size_t r = 0; r < all.size(); ++r) {
        if (topology.hosts[r] != topology.hosts[rank]) continue;
        if (r == rank) gpus.rank_on_host = gpus.n_ranks_on_host;
        ++gpus.n_ranks_on_host;
        gpus.uuids_of_rank.push_back(split(all[r]));
    }
    gpus.visible_devices = environment("CUDA_VISIBLE_DEVICES");
    gpus.slurm_gpus_per_task = environment("SLURM_GPUS_PER_TASK");
    return gpus;
}

/// Why the ranks do not exchange over NCCL, the same on all; "" where they do.
std::string why_not_nccl(TransportOption option, int ranks_on_gpu, const comm::Topology& topology) {
    if (option == TransportOption::host) return "--gpu-transport host";
    const std::string own =
        ranks_on_gpu > 1 ? "ranks share a GPU, which NCCL does not allow" : comm::why_no_nccl();
    for (const std::string& why : topology.world.all_gather(own)) {
        if (!why.empty()) return why;
    }
    return "";
}

}  // namespace

TransportOption parse_transport(const std::string& text) {
    if (text == "nccl") return TransportOption::nccl;
    if (text == "host") return TransportOption::host;
    require_usage(text == "auto", "--gpu-transport {}: not one of nccl, host, auto", text);
    return TransportOption::automatic;
}

BackendOption parse_backend(const std::string& text) {
    if (text == "cpu") return BackendOption::cpu;
    if (text == "auto") return BackendOption::automatic;
    require_usage(text == "cuda", "--backend {}: not one of cpu, cuda, auto", text);
    require_usage(device::built_with_cuda(), "--backend cuda: {}", device::survey_gpus().why_none);
    return BackendOption::cuda;
}

BackendChoice choose_backend(BackendOption option, bool allow_gpu_sharing, TransportOption transport,
                             const comm::Topology& topology) {
    if (option == BackendOption::cpu) return {};
    const device::GpuSurvey survey = device::survey_gpus();
    const bool speaks = topology.world.rank() == 0;
    if (option == BackendOption::automatic) {
        if (speaks && survey.gpus.empty()) {
            spdlog::info("computing on the CPU: {}", survey.why_none);
        } else if (speaks) {
            spdlog::info("computing on the CPU, and there is a GPU ({}): --backend cuda takes it",
                         survey.gpus[0].name);
        }
        return {};
    }
    device::RankGpus gpus = gpus_of_host(survey, topology);
    gpus.allow_sharing = allow_gpu_sharing;
    BackendChoice choice;
    choice.backend = device::Backend::cuda;
    comm::agree(topology.world, [&] {
        require_usage(!survey.gpus.empty() || gpus.n_ranks_on_host > 1, "--backend cuda: {}",
                      survey.why_none);
        choice.gpu = device::choose_gpu(gpus);
        choice.ranks_on_gpu = device::ranks_on_chosen_gpu(gpus);
        device::use_gpu(choice.gpu);
    });
    std::string way;
    if (topology.world.size() > 1) {
        const std::string why = why_not_nccl(transport, choice.ranks_on_gpu, topology);
        comm::agree(topology.world, [&] {
            require_usage(why.empty() || transport != TransportOption::nccl, "--gpu-transport nccl: {}", why);
        });
        choice.transport = why.empty() ? comm::GpuTransport::nccl : comm::GpuTransport::host;
        way = why.empty() ? "; ranks exchange over NCCL"
                          : fmt::format("; ranks exchange through the hosts' memory ({})", why);
    }
    if (speaks) {
        const device::GpuProperties& gpu = device::gpu_in_use();
        spdlog::info("computing on {} ({}.{}, {} multiprocessors, {:.0f} GiB){}", gpu.name,
                     gpu.compute_capability / 10, gpu.compute_capability % 10, gpu.n_multiprocessors,
                     static_cast<double>(gpu.memory_bytes) / 0x1p30, way);
    }
    return choice;
}

}  // namespace mixserve::app
