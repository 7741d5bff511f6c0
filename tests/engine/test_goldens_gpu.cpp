#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "comm/gpu_communicator.h"
#include "device/gpu.h"
#include "engine/golden_check.h"
#include "engine/model_runner.h"
#include "support/test_support.h"

namespace mixserve {
namespace {

// The goldens with --backend cuda: on GPUs or on the emulator; over NCCL where each rank has one, else all
// share the first.

bool has_gpu() {
    return !device::survey_gpus().gpus.empty();
}

#define MIXSERVE_NEEDS_GPU() \
    if (!has_gpu()) GTEST_SKIP() << "no GPU: " << device::survey_gpus().why_none

using comm::Strategy;

/// One rank exchanges nothing, whatever the strategy.
test::LayoutChoice on_gpu(std::vector<Strategy> strategies) {
    test::LayoutChoice choice;
    choice.backend = device::Backend::cuda;
    choice.strategies = std::move(strategies);
    const auto n_ranks = static_cast<size_t>(comm::Communicator::world().size());
    if (n_ranks > 1 && device::survey_gpus().gpus.size() >= n_ranks && comm::why_no_nccl().empty())
        choice.gpu_transport = comm::GpuTransport::nccl;
    if (comm::Communicator::world().size() == 1) choice.strategies.resize(1);
    return choice;
}

/// Steps of few rows: rows keep 16 bits of mantissa in every product, and the CPU's tolerance holds.
test::GoldenLimits small_steps() {
    test::GoldenLimits limits;
    limits.n_greedy = 3;
    limits.step_tokens = 12;
    return limits;
}

/// Steps of many rows: operands are rounded to bf16, by 2^-9 of their size. A forward pass of L layers has 4
/// L + 1 products one after the other; rounding errors of independent sign grow like the root of their
/// number, and twice that is allowed, in the norm of all logits.
test::GoldenLimits large_steps(int64_t n_layers) {
    test::GoldenLimits limits;
    limits.n_greedy = 1;
    limits.step_tokens = 200;
    const auto n_products = static_cast<float>(4 * n_layers + 1);
    limits.norm = 2.0F * std::sqrt(n_products) * 0x1p-9F;
    return limits;
}

void check(const std::string& name, std::vector<Strategy> strategies) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/" + name);
    test::check_checkpoint(folder, small_steps(), on_gpu(std::move(strategies)));
}

TEST(GpuGoldens, Qwen3Moe) {
    MIXSERVE_NEEDS_GPU();
    check("qwen3-moe", {Strategy::tp_ep, Strategy::fused, Strategy::tp, Strategy::dp_ep, Strategy::tp_pp});
}
TEST(GpuGoldens, Qwen2Moe) {
    MIXSERVE_NEEDS_GPU();
    check("qwen2-moe", {Strategy::tp_ep, Strategy::fused});
}
TEST(GpuGoldens, Mixtral) {
    MIXSERVE_NEEDS_GPU();
    check("mixtral", {Strategy::tp_ep});
}
TEST(GpuGoldens, Olmoe) {
    MIXSERVE_NEEDS_GPU();
    check("olmoe", {Strategy::tp_ep, Strategy::fused});
}

TEST(GpuGoldens, Qwen3MoeInLargeSteps) {
    MIXSERVE_NEEDS_GPU();
    MIXSERVE_NEEDS_SHARED(folder, "goldens/qwen3-moe");
    test::check_checkpoint(folder, large_steps(4), on_gpu({Strategy::tp_ep}));
}

/// Three prompts, then three longer ones, for which memory has to grow: the steps that were recorded before,
/// which are of the same size, are stale.
std::vector<test::RunOutput> run_twice(const test::ConvertedModel& converted, bool cuda_graphs,
                                       int64_t& n_replayed) {
    test::LayoutChoice choice = on_gpu({Strategy::tp_ep});
    choice.cuda_graphs = cuda_graphs;
    std::vector<test::RunOutput> all;
    test::for_each_layout(converted, choice, [&](engine::RankModel& model, const std::string&) {
        int64_t before = 0;
        for (const size_t length : {3, 20}) {
            std::vector<std::vector<int32_t>> prompts;
            for (size_t i = 0; i < 3; ++i)
                prompts.emplace_back(length + i, static_cast<int32_t>(7 + i));
            const auto outputs = test::run_prompts(model, prompts, 6, {16, 200}, false);
            all.insert(all.end(), outputs.begin(), outputs.end());
            if (cuda_graphs) {
                EXPECT_GT(model.n_replayed_steps(), before) << "prompts of " << length;
            }
            before = model.n_replayed_steps();
        }
        n_replayed = model.n_replayed_steps();
    });
    return all;
}

TEST(GpuGraphs, ReplayedStepsGiveTheSameBits) {
    MIXSERVE_NEEDS_GPU();
    if (comm::Communicator::world().size() > 1) GTEST_SKIP() << "one rank records its steps, several do not";
    MIXSERVE_NEEDS_SHARED(folder, "goldens/olmoe");
    const test::ConvertedModel converted(folder);
    int64_t n_replayed = 0;
    const auto replayed = run_twice(converted, true, n_replayed);
    int64_t n_without = 0;
    const auto launched = run_twice(converted, false, n_without);
    EXPECT_EQ(n_without, 0);
    ASSERT_EQ(replayed.size(), launched.size());
    for (size_t i = 0; i < replayed.size(); ++i) {
        EXPECT_EQ(replayed[i].greedy, launched[i].greedy) << "prompt " << i;
        EXPECT_EQ(replayed[i].greedy_logits, launched[i].greedy_logits) << "prompt " << i;
        EXPECT_EQ(replayed[i].logits, launched[i].logits) << "prompt " << i;
    }
}

}  // namespace
}  // namespace mixserve
