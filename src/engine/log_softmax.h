#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mixserve::engine {

/// The largest of them. Error when one is NaN or infinite, or there is none.
float largest_finite(std::span<const float> logits);

/// Says so of `n_bad` of `n_logits` logits, the first of them `value`, of `token`.
[[noreturn]] void fail_not_finite(int64_t n_bad, size_t n_logits, float value, int64_t token);

/// log(sum(exp(logits))): f64 sums in a fixed order, the same bits on every machine with the same vector
/// instructions. Error when a logit is not finite.
double log_sum_exp(std::span<const float> logits);

struct IdLogprob {
    int32_t token = 0;
    float logprob = 0;
};

/// What the raw distribution says at one position.
struct Logprobs {
    float logprob = 0;           // of the chosen token
    int64_t rank = 1;            // 1 + the number of tokens that are more likely
    std::vector<IdLogprob> top;  // best first; of equals, the lowest id first
};

/// `logits` [vocab_size]; `n_top` most likely tokens are listed (fewer when there are fewer).
Logprobs logprobs_of(std::span<const float> logits, int32_t token, int64_t n_top);

/// The log-probability of one token alone.
float logprob_of(std::span<const float> logits, int32_t token);

}  // namespace mixserve::engine
