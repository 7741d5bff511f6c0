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

/// A request's logits have the same bits whatever shares its batch, however its prefill is cut, and on
/// whichever node.
void check_checkpoint(const std::filesystem::path& folder) {
    const auto cases = test::read_golden((folder / "golden.h5").string());
    std::vector<std::vector<int32_t>> prompts;
    for (const test::GoldenCase& c : cases)
        prompts.push_back(c.prompt);
    constexpr int64_t n_greedy = 6;
    const test::ConvertedModel converted(folder);
    test::for_each_layout(converted, {{comm::Strategy::tp_ep, comm::Strategy::fused, comm::Strategy::dp_ep}},
                          [&](engine::RankModel& model, const std::string& layout) {
                              // All nodes run the same prompts here, so each node's results can be held
                              // against the others'.
                              const auto together = test::run_prompts(model, prompts, n_greedy, {16, 512});
                              for (const int64_t rows : {1, 5, 37}) {
                                  const auto cut = test::run_prompts(model, prompts, n_greedy, {16, rows});
                                  for (size_t i = 0; i < prompts.size(); ++i) {
                                      expect_same_bits(together[i], cut[i],
                                                       layout + ", case " + std::to_string(i) +
                                                           ", steps of " + std::to_string(rows));
                                  }
                              }
                              for (const size_t i : {size_t{0}, size_t{3}, size_t{5}}) {
                                  // Alone, and on one node only: the others take part without tokens.
                                  for (int node = 0; node < model.topology().n_nodes; ++node) {
                                      std::vector<std::vector<int32_t>> alone;
                                      if (model.topology().node_index == node) alone.push_back(prompts[i]);
                                      const auto out = test::run_prompts(model, alone, n_greedy, {16, 512});
                                      if (alone.empty()) continue;
                                      expect_same_bits(together[i], out[0],
                                                       layout + ", case " + std::to_string(i) +
                                                           " alone on node " + std::to_string(node));
                                  }
                              }
                              const auto again = test::run_prompts(model, prompts, n_greedy, {16, 512});
                              for (size_t i = 0; i < prompts.size(); ++i)
                                  expect_same_bits(together[i], again[i], layout + ", run again");
                          });
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

}  // namespace
}  // namespace mixserve
