#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "engine/model_runner.h"
#include "engine/test_models.h"
#include "support/test_support.h"

namespace mixserve {
namespace {

using test::RunOutput;

bool same_bits(std::span<const float> a, std::span<const float> b) {
    return std::ranges::equal(std::as_bytes(a), std::as_bytes(b));
}

void expect_same_bits(const RunOutput& a, const RunOutput& b, const std::string& where) {
    EXPECT_TRUE(same_bits(a.logits, b.logits)) << where << ": logits";
    EXPECT_TRUE(same_bits(a.logprobs, b.logprobs)) << where << ": logprobs";
    EXPECT_EQ(a.greedy, b.greedy) << where;
}

using Prompts = std::vector<std::vector<int32_t>>;

/// In what the batches of a run differ from those of the others.
struct Mix {
    const char* name;
    engine::SchedulerLimits limits;
    size_t longest_prompt = 1000;  // longer ones would take too many steps
};
constexpr Mix mixes[] = {
    {"steps of one token", {16, 1}, 33},     {"steps of 5 tokens", {16, 5}},
    {"steps of 37 tokens", {16, 37}},        {"one at a time", {1, 512}},
    {"three at a time, cut at 11", {3, 11}}, {"again", {16, 512}},
};

/// A request's logits have the same bits whatever shares its batch, however its prefill is cut, and on
/// whichever node.
void check_layout(engine::RankModel& model, const Prompts& prompts, int64_t n_greedy,
                  const std::vector<size_t>& alone, const std::string& layout) {
    // All nodes run the same prompts here, so each node's results can be held against the others'.
    const auto together = test::run_prompts(model, prompts, n_greedy, {16, 512});
    const auto where = [&](size_t i) { return layout + ", case " + std::to_string(i) + ", "; };
    for (size_t i = 0; i < prompts.size() && model.layout().has_head; ++i)
        ASSERT_FALSE(together[i].logits.empty()) << where(i) << "nothing to compare";
    for (const Mix& mix : mixes) {
        Prompts some;
        std::vector<size_t> cases;
        for (size_t i = 0; i < prompts.size(); ++i) {
            if (prompts[i].size() > mix.longest_prompt) continue;
            some.push_back(prompts[i]);
            cases.push_back(i);
        }
        const auto mixed = test::run_prompts(model, some, n_greedy, mix.limits);
        for (size_t i = 0; i < cases.size(); ++i)
            expect_same_bits(together[cases[i]], mixed[i], where(cases[i]) + mix.name);
    }
    const auto reversed =
        test::run_prompts(model, Prompts(prompts.rbegin(), prompts.rend()), n_greedy, {4, 64});
    for (size_t i = 0; i < prompts.size(); ++i)
        expect_same_bits(together[i], reversed[prompts.size() - 1 - i], where(i) + "in reverse");
    for (const size_t i : alone) {
        // On one node only: the others take part without tokens.
        const int n_places = test::world_serves_together(model) ? 1 : model.topology().n_nodes;
        for (int place = 0; place < n_places; ++place) {
            const bool here = n_places == 1 || model.topology().node_index == place;
            const auto out =
                test::run_prompts(model, here ? Prompts{prompts[i]} : Prompts{}, n_greedy, {16, 512});
            if (here)
                expect_same_bits(together[i], out[0], where(i) + "alone on node " + std::to_string(place));
        }
    }
}

test::LayoutChoice all_layouts() {
    test::LayoutChoice choice;
    choice.expert_splits = {comm::ExpertSplit::tensor, comm::ExpertSplit::expert};
    return choice;
}

void check_checkpoint(const std::filesystem::path& folder) {
    Prompts prompts;
    for (const test::GoldenCase& c : test::read_golden((folder / "golden.h5").string()))
        prompts.push_back(c.prompt);
    int n_checked = 0;
    test::for_each_layout(test::ConvertedModel(folder), all_layouts(),
                          [&](engine::RankModel& model, const std::string& layout) {
                              check_layout(model, prompts, 4, {0, 3, 5}, layout);
                              ++n_checked;
                          });
    EXPECT_GT(n_checked, 0);
}

TEST(BatchInvariance, Qwen3Moe) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/qwen3-moe");
    check_checkpoint(folder);
}
TEST(BatchInvariance, Qwen2Moe) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/qwen2-moe");
    check_checkpoint(folder);
}
TEST(BatchInvariance, Mixtral) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/mixtral");
    check_checkpoint(folder);
}
TEST(BatchInvariance, Olmoe) {
    MIXSERVE_NEEDS_SHARED(folder, "goldens/olmoe");
    check_checkpoint(folder);
}
/// Of a size at which products are tiled and threads share them.
TEST(BatchInvariance, SampleModel) {
    test::LayoutChoice choice = all_layouts();
    choice.max_model_len = 2048;
    choice.rope_frequency_dtype = DType::f32;
    const auto folder = test::source_dir() / "inputs/models/shakespeare-moe";
    const auto cases = test::read_golden((folder / "golden.h5").string());
    Prompts prompts;
    for (const size_t i : {9, 16, 18, 25, 19, 3})  // of 1 to 193 tokens
        prompts.push_back(cases[i].prompt);
    test::for_each_layout(test::ConvertedModel(folder), choice,
                          [&](engine::RankModel& model, const std::string& layout) {
                              check_layout(model, prompts, 3, {1}, layout);
                          });
}

}  // namespace
}  // namespace mixserve
