#include "device/gpu_binding.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace mixserve::device {
namespace {

std::string surroundings(const RankGpus& rank) {
    std::string text = rank.visible_devices.empty()
                           ? "CUDA_VISIBLE_DEVICES is not set"
                           : fmt::format("CUDA_VISIBLE_DEVICES is {}", rank.visible_devices);
    if (!rank.slurm_gpus_per_task.empty())
        text += fmt::format(", Slurm's --gpus-per-task {}", rank.slurm_gpus_per_task);
    return text;
}

/// The choice of rank `r` of the host, as choose_gpu() states it, sharing or not.
size_t choice_of(const RankGpus& rank, size_t r) {
    const auto& all = rank.uuids_of_rank;
    const bool same = std::all_of(all.begin(), all.end(), [&](const auto& uuids) { return uuids == all[0]; });
    return same ? r % all[r].size() : 0;
}

std::vector<size_t> sharers_of(const RankGpus& rank) {
    const auto own = static_cast<size_t>(rank.rank_on_host);
    const auto& all = rank.uuids_of_rank;
    std::vector<size_t> sharers;
    for (size_t r = 0; r < all.size(); ++r) {
        if (all[r][choice_of(rank, r)] == all[own][choice_of(rank, own)]) sharers.push_back(r);
    }
    return sharers;
}

}  // namespace

int choose_gpu(const RankGpus& rank) {
    const auto own = static_cast<size_t>(rank.rank_on_host);
    const auto& all = rank.uuids_of_rank;
    require(all.size() == static_cast<size_t>(rank.n_ranks_on_host),
            "{} ranks on this host and the GPUs of {}", rank.n_ranks_on_host, all.size());
    for (size_t r = 0; r < all.size(); ++r) {
        require_usage(
            !all[r].empty(),
            "--backend cuda: rank {} of this host sees no GPU ({}); ask the launcher for one a rank "
            "(--gpus-per-task=1), or start fewer ranks",
            r, surroundings(rank));
    }
    const std::vector<size_t> sharers = sharers_of(rank);
    if (sharers.size() > 1 && !rank.allow_sharing) {
        std::set<std::string> distinct;
        for (const auto& uuids : all)
            distinct.insert(uuids.begin(), uuids.end());
        fail_usage(
            "--backend cuda: ranks {} of this host would share one GPU: its {} ranks see {} ({}). Start as "
            "many ranks "
            "on a host as it has GPUs, ask for --gpus-per-task=1, or allow it with --allow-gpu-sharing",
            fmt::join(sharers, ", "), rank.n_ranks_on_host, distinct.size(), surroundings(rank));
    }
    return static_cast<int>(choice_of(rank, own));
}

int ranks_on_chosen_gpu(const RankGpus& rank) {
    return static_cast<int>(sharers_of(rank).size());
}

}  // namespace mixserve::device
