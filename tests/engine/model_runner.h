#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/rank_model.h"
#include "engine/scheduler.h"

namespace mixserve::test {

/// What a model computed for one prompt.
struct RunOutput {
    std::vector<float> logits;         // after the last prompt token, [vocab_size]
    std::vector<float> logprobs;       // of each prompt token but the first
    std::vector<int32_t> greedy;       // greedy continuation
    std::vector<float> greedy_logits;  // of its tokens
    std::map<std::pair<int64_t, int64_t>, std::vector<int32_t>>
        router;  // (layer, position) that this rank owned -> experts
};

/// Runs prompts through a model with the real scheduler, greedily, without text. Every rank of a group runs
/// the same scheduler on the same prompts, so nothing is sent between them but what the model sends.
/// Collective over the world. Without `observes`, the router's choices are left out.
std::vector<RunOutput> run_prompts(engine::RankModel& model, std::span<const std::vector<int32_t>> prompts,
                                   int64_t n_greedy, const engine::SchedulerLimits& limits,
                                   bool observes = true);

/// /cases of a golden.h5 (shared/goldens/make_goldens.py).
struct GoldenCase {
    std::vector<int32_t> prompt;
    std::vector<float> logits;
    std::vector<float> logprobs;
    std::vector<int32_t> greedy;
    std::vector<float> margin;
    std::vector<int32_t> router;  // [routed layers, prompt, k], or empty
};
std::vector<GoldenCase> read_golden(const std::string& path);

}  // namespace mixserve::test
