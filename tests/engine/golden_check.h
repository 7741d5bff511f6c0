#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/test_models.h"

namespace mixserve::test {

/// How a checkpoint's golden is run and how near to it the results must be.
struct GoldenLimits {
    int64_t n_greedy = 24;     // tokens that follow each prompt
    int64_t step_tokens = 96;  // prefilled at most in one step
    float logits = 2e-4F;      // times the largest logit; greedy tokens may differ within it
    float logprobs = 1e-3F;
    /// Above 0: instead of these, |out - golden| / |golden| of all logits and of all log-probabilities in the
    /// 2-norm; greedy tokens and the router's choices are not compared then, since rounding may turn a near
    /// tie.
    float norm = 0;
};

/// Every layout of the ranks at hand that divides the model, against what transformers computed (golden.h5 in
/// the checkpoint's folder).
void check_checkpoint(const std::filesystem::path& folder, const GoldenLimits& limits,
                      const LayoutChoice& choice = {});

}  // namespace mixserve::test
