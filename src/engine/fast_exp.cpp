#include "engine/fast_exp.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace mixserve::engine {
namespace {

constexpr size_t n_lanes = 8;
constexpr uint32_t exponent_bits = 0x7F800000;

[[noreturn]] void fail_with_what_is_not_finite(std::span<const float> logits) {
    const auto bad =
        std::find_if(logits.begin(), logits.end(), [](float logit) { return !std::isfinite(logit); });
    const auto n =
        std::count_if(logits.begin(), logits.end(), [](float logit) { return !std::isfinite(logit); });
    fail_not_finite(n, logits.size(), *bad, bad - logits.begin());
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
    std::array<float, n_lanes> largest;
    largest.fill(-std::numeric_limits<float>::infinity());
    std::array<uint32_t, n_lanes> not_finite{};
    const size_t n_whole = logits.size() / n_lanes * n_lanes;
    for (size_t i = 0; i < n_whole; i += n_lanes) {
        for (size_t lane = 0; lane < n_lanes; ++lane) {
            const float logit = logits[i + lane];
            largest[lane] = logit > largest[lane] ? logit : largest[lane];
            not_finite[lane] |= (std::bit_cast<uint32_t>(logit) & exponent_bits) == exponent_bits ? 1U : 0U;
        }
    }
    for (size_t i = n_whole; i < logits.size(); ++i) {
        largest[0] = std::max(largest[0], logits[i]);
        not_finite[0] |= std::isfinite(logits[i]) ? 0U : 1U;
    }
    if (std::any_of(not_finite.begin(), not_finite.end(), [](uint32_t bad) { return bad != 0; }))
        fail_with_what_is_not_finite(logits);
    return *std::max_element(largest.begin(), largest.end());
}

int32_t index_of_largest(std::span<const float> logits) {
    float largest = -std::numeric_limits<float>::infinity();
    for (const float logit : logits)
        largest = logit > largest ? logit : largest;
    return static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
}

double sum_of_exp(std::span<const float> logits, float largest, float scale, float lowest) {
    constexpr size_t n_together = 64;  // a loop of its own, which compilers turn into vector code
    std::array<float, n_together> weights;
    std::array<double, n_lanes> sums{};
    for (size_t first = 0; first < logits.size(); first += n_together) {
        const size_t n = std::min(n_together, logits.size() - first);
        const float* some = logits.data() + first;
        if (n < n_together) weights.fill(0.0F);
        for (size_t i = 0; i < n; ++i)
            weights[i] = weight_of(some[i], largest, scale, lowest);
        for (size_t i = 0; i < n_together; i += n_lanes) {
            for (size_t lane = 0; lane < n_lanes; ++lane)
                sums[lane] += static_cast<double>(weights[i + lane]);
        }
    }
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

}  // namespace mixserve::engine
