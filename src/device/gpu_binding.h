#pragma once

#include <span>
#include <string>
#include <vector>

namespace mixserve::device {

/// What decides which GPU a rank takes: its host's ranks and what each of them sees.
struct RankGpus {
    int rank_on_host = 0;
    int n_ranks_on_host = 1;
    /// For each rank of the host, in order, the uuids of the GPUs that the driver shows it
    /// (CUDA_VISIBLE_DEVICES and the job's own limits have been applied by then).
    std::vector<std::vector<std::string>> uuids_of_rank;
    bool allow_sharing = false;       // --allow-gpu-sharing
    std::string visible_devices;      // CUDA_VISIBLE_DEVICES, "" where it is not set; for messages
    std::string slurm_gpus_per_task;  // SLURM_GPUS_PER_TASK, likewise
};

/// The GPU, in the count of what this rank sees, that it takes. Where ranks see different GPUs (as with
/// Slurm's
/// --gpus-per-task), the first that it sees; where all see the same, its place on the host in them, so that
/// neighbours in rank are neighbours in the driver's order. UsageError when it sees none, or when ranks would
/// share one and that is not allowed: it says what to ask the launcher for.
int choose_gpu(const RankGpus& rank);

/// Ranks of the host that take the same GPU as this one, itself included.
int ranks_on_chosen_gpu(const RankGpus& rank);

}  // namespace mixserve::device
