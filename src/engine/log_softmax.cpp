#include "engine/log_softmax.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/logits.h"

namespace mixserve::engine {
namespace {

bool better(const IdLogprob& a, const IdLogprob& b) {
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
}

// The n largest logits, best first.
std::vector<IdLogprob> largest(std::span<const float> logits, int64_t n) {
    std::vector<IdLogprob> heap;  // its front is the worst
    const auto capacity = static_cast<size_t>(std::min<int64_t>(n, static_cast<int64_t>(logits.size())));
    heap.reserve(capacity);
    if (capacity == 0) return heap;
    for (size_t i = 0; i < logits.size(); ++i) {
        const IdLogprob entry{static_cast<int32_t>(i), logits[i]};
        if (heap.size() < capacity) {
            heap.push_back(entry);
            std::push_heap(heap.begin(), heap.end(), better);
        } else if (entry.logprob > heap.front().logprob) {
            std::pop_heap(heap.begin(), heap.end(), better);
            heap.back() = entry;
            std::push_heap(heap.begin(), heap.end(), better);
        }
    }
    std::sort_heap(heap.begin(), heap.end(), better);
    return heap;
}

void check_token(std::span<const float> logits, int32_t token) {
    require(token >= 0 && static_cast<size_t>(token) < logits.size(),
            "token id {} is out of range: the vocabulary has {} tokens", token, logits.size());
}

}  // namespace

void fail_not_finite(int64_t n_bad, size_t n_logits, float value, int64_t token) {
    fail(
        "{} of {} logits are not finite (the first is {} of token {}); the weights or the sums of this model "
        "overflow",
        n_bad, n_logits, value, token);
}

float largest_finite(std::span<const float> logits) {
    require(!logits.empty(), "there are no logits");
    const kernels::LogitsLook look = kernels::look_at(logits);
    if (look.n_not_finite > 0) {
        const auto bad =
            std::find_if(logits.begin(), logits.end(), [](float logit) { return !std::isfinite(logit); });
        fail_not_finite(look.n_not_finite, logits.size(), *bad, bad - logits.begin());
    }
    return look.largest;
}

double log_sum_exp(std::span<const float> logits) {
    const float largest_logit = largest_finite(logits);
    return static_cast<double>(largest_logit) +
           std::log(kernels::sum_of_exp(logits, largest_logit, 1.0F, largest_logit - 88, nullptr));
}

Logprobs logprobs_of(std::span<const float> logits, int32_t token, int64_t n_top) {
    check_token(logits, token);
    const double total = log_sum_exp(logits);
    const float logit = logits[static_cast<size_t>(token)];
    Logprobs result;
    result.logprob = static_cast<float>(static_cast<double>(logit) - total);
    result.rank = 1 + std::count_if(logits.begin(), logits.end(), [&](float other) { return other > logit; });
    result.top = largest(logits, n_top);
    for (IdLogprob& entry : result.top)
        entry.logprob = static_cast<float>(static_cast<double>(entry.logprob) - total);
    return result;
}

float logprob_of(std::span<const float> logits, int32_t token) {
    check_token(logits, token);
    const double total = log_sum_exp(logits);
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - total);
}

}  // namespace mixserve::engine
