#include "engine/golden_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/model_runner.h"

namespace mixserve::test {
namespace {

float largest(std::span<const float> values) {
    float top = 0.0f;
    for (const float v : values)
        top = std::max(top, std::fabs(v));
    return top;
}

/// The largest |a - b|; infinite where a value is not finite or the sizes differ.
float distance(std::span<const float> a, std::span<const float> b) {
    if (a.size() != b.size()) return INFINITY;
    float worst = 0.0f;
    for (size_t i = 0; i < a.size(); ++i) {
        const float d = std::fabs(a[i] - b[i]);
        if (!(d <= std::numeric_limits<float>::max())) return INFINITY;
        worst = std::max(worst, d);
    }
    return worst;
}

/// |a - b| / |a|; infinite where a value is not finite or the sizes differ.
double norm_distance(std::span<const float> a, std::span<const float> b) {
    if (a.size() != b.size()) return INFINITY;
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        if (!std::isfinite(d)) return INFINITY;
        difference += d * d;
        norm += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    }
    return difference == 0 ? 0.0 : std::sqrt(difference / norm);
}

void expect_equal(const GoldenCase& golden, const RunOutput& out, const model::ModelConfig& config,
                  const GoldenLimits& limits, const std::string& where) {
    if (limits.norm > 0) {
        EXPECT_LE(norm_distance(golden.logits, out.logits), limits.norm) << where << ": logits";
        EXPECT_LE(norm_distance(golden.logprobs, out.logprobs), limits.norm) << where << ": logprobs";
        return;
    }
    const float tolerance = limits.logits * largest(golden.logits);
    EXPECT_LE(distance(golden.logits, out.logits), tolerance) << where << ": logits";
    EXPECT_LE(distance(golden.logprobs, out.logprobs), limits.logprobs) << where << ": logprobs";
    ASSERT_EQ(golden.greedy.size(), out.greedy.size()) << where;
    for (size_t i = 0; i < golden.greedy.size(); ++i) {
        if (golden.greedy[i] == out.greedy[i]) continue;
        EXPECT_LE(golden.margin[i], tolerance) << where << ": greedy token " << i;
        break;  // the contexts differ from here on
    }
    if (golden.router.empty()) return;
    const auto k = static_cast<size_t>(config.num_experts_per_tok);
    size_t routed = 0;
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
        if (!config.sparse[static_cast<size_t>(layer)]) continue;
        for (size_t t = 0; t < golden.prompt.size(); ++t) {
            const auto found = out.router.find({layer, static_cast<int64_t>(t)});
            if (found == out.router.end()) continue;  // another rank's token
            const int32_t* wanted = golden.router.data() + (routed * golden.prompt.size() + t) * k;
            EXPECT_EQ(std::vector<int32_t>(wanted, wanted + k), found->second)
                << where << ": router, layer " << layer << ", position " << t;
        }
        ++routed;
    }
}

}  // namespace

void check_checkpoint(const std::filesystem::path& folder, const GoldenLimits& limits,
                      const LayoutChoice& choice) {
    const std::vector<GoldenCase> cases = read_golden((folder / "golden.h5").string());
    ASSERT_FALSE(cases.empty());
    const ConvertedModel converted(folder);
    int n_checked = 0;
    for_each_layout(converted, choice, [&](engine::RankModel& model, const std::string& layout) {
        std::vector<std::vector<int32_t>> prompts;
        std::vector<size_t> mine;  // cases are dealt to the groups of ranks that serve requests
        for (size_t i = 0; i < cases.size(); ++i) {
            if (served_here(model, i)) mine.push_back(i);
        }
        for (const size_t i : mine)
            prompts.push_back(cases[i].prompt);
        const auto outputs =
            run_prompts(model, prompts, limits.n_greedy, {16, limits.step_tokens}, limits.norm == 0);
        for (size_t i = 0; i < mine.size() && model.layout().has_head; ++i) {
            GoldenCase golden = cases[mine[i]];
            golden.greedy.resize(static_cast<size_t>(limits.n_greedy));
            expect_equal(golden, outputs[i], model.config(), limits,
                         layout + ", case " + std::to_string(mine[i]));
        }
        ++n_checked;
    });
    EXPECT_GT(n_checked, 0);
}

}  // namespace mixserve::test
