#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "device/gpu_binding.h"

namespace mixserve::device {
namespace {

using Uuids = std::vector<std::string>;

RankGpus host_of(std::vector<Uuids> uuids_of_rank, int rank) {
    RankGpus gpus;
    gpus.rank_on_host = rank;
    gpus.n_ranks_on_host = static_cast<int>(uuids_of_rank.size());
    gpus.uuids_of_rank = std::move(uuids_of_rank);
    return gpus;
}

std::string error_of(const RankGpus& gpus) {
    try {
        choose_gpu(gpus);
    } catch (const UsageError& e) {
        return e.what();
    }
    return "";
}

TEST(GpuBinding, RanksThatSeeAllTakeTheirPlace) {
    const Uuids all = {"a", "b", "c", "d"};
    for (int rank = 0; rank < 4; ++rank) {
        EXPECT_EQ(choose_gpu(host_of({all, all, all, all}, rank)), rank);
        EXPECT_EQ(ranks_on_chosen_gpu(host_of({all, all, all, all}, rank)), 1);
    }
    EXPECT_EQ(choose_gpu(host_of({all, all}, 1)), 1);
    EXPECT_EQ(choose_gpu(host_of({{"a"}}, 0)), 0);
}

TEST(GpuBinding, RanksThatTheLauncherBoundTakeTheFirstTheySee) {
    for (int rank = 0; rank < 3; ++rank)
        EXPECT_EQ(choose_gpu(host_of({{"c"}, {"a"}, {"b"}}, rank)), 0);
    EXPECT_EQ(choose_gpu(host_of({{"a", "b"}, {"c", "d"}}, 1)), 0);
}

TEST(GpuBinding, SharingIsRefusedUnlessAllowed) {
    const Uuids all = {"a", "b"};
    RankGpus gpus = host_of({all, all, all}, 2);
    gpus.visible_devices = "0,1";
    EXPECT_THAT(
        error_of(gpus),
        testing::AllOf(testing::HasSubstr("0, 2"), testing::HasSubstr("CUDA_VISIBLE_DEVICES is 0,1"),
                       testing::HasSubstr("--allow-gpu-sharing"), testing::HasSubstr("--gpus-per-task=1")));
    gpus.allow_sharing = true;
    EXPECT_EQ(choose_gpu(gpus), 0);
    EXPECT_EQ(ranks_on_chosen_gpu(gpus), 2);
    gpus.rank_on_host = 1;
    EXPECT_EQ(choose_gpu(gpus), 1);
    EXPECT_EQ(ranks_on_chosen_gpu(gpus), 1);
}

TEST(GpuBinding, TheSameGpuUnderDifferentListsIsSharing) {
    // As with Slurm's --gpus-per-task where a launcher gave two ranks the same.
    EXPECT_THAT(error_of(host_of({{"a"}, {"a", "b"}}, 0)), testing::HasSubstr("share one GPU"));
    EXPECT_EQ(error_of(host_of({{"a"}, {"b", "a"}}, 1)), "");
}

TEST(GpuBinding, ARankThatSeesNoneIsNamed) {
    RankGpus gpus = host_of({{"a"}, {}}, 0);
    gpus.slurm_gpus_per_task = "1";
    EXPECT_THAT(error_of(gpus), testing::AllOf(testing::HasSubstr("rank 1 of this host sees no GPU"),
                                               testing::HasSubstr("--gpus-per-task 1")));
}

}  // namespace
}  // namespace mixserve::device
