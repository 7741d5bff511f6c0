#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

namespace mixserve::engine {

/// exp(x) for x <= 0, to 2 units in the last place of f32; 0 below -87. Plain arithmetic that compilers turn
/// into vector code: powers of two by the exponent's bits, the rest by the Taylor polynomial on [-ln 2 / 2,
/// ln 2 / 2] with ln 2 in two parts (Cody and Waite, 1980).
inline float exp_of_negative(float x) {
    constexpr float to_nearest = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
    // Of numbers that are not positive, the lower has the larger bits; integers need no branch.
    constexpr auto bits_of_least = std::bit_cast<uint32_t>(-87.0F);
    const auto bits = std::bit_cast<uint32_t>(x);
    const float clamped = std::bit_cast<float>(std::min(bits, bits_of_least));
    const float rounded = clamped * 1.44269504F + to_nearest;
    const float power = rounded - to_nearest;
    const float rest = (clamped - power * 0.693359375F) + power * 2.12194440e-4F;
    float sum = 1.0F / 5040;
    sum = sum * rest + 1.0F / 720;
    sum = sum * rest + 1.0F / 120;
    sum = sum * rest + 1.0F / 24;
    sum = sum * rest + 1.0F / 6;
    sum = sum * rest + 0.5F;
    sum = sum * rest + 1.0F;
    sum = sum * rest + 1.0F;
    const uint32_t exponent = (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(to_nearest)) << 23;
    const uint32_t kept = 0U - static_cast<uint32_t>(bits <= bits_of_least);  // all bits, or none
    return std::bit_cast<float>((std::bit_cast<uint32_t>(sum) + exponent) & kept);
}

/// exp((logit - largest) * scale), or 0 for a logit below `lowest`. The logit may be -inf.
inline float weight_of(float logit, float largest, float scale, float lowest) {
    const uint32_t kept = 0U - static_cast<uint32_t>(logit >= lowest);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(exp_of_negative((logit - largest) * scale)) & kept);
}

/// Error when one is NaN or infinite, or there is none.
float largest_finite(std::span<const float> logits);

/// Says so of `n_bad` of `n_logits` logits, the first of them `value`, of `token`.
[[noreturn]] void fail_not_finite(int64_t n_bad, size_t n_logits, float value, int64_t token);

/// The first of the largest.
int32_t index_of_largest(std::span<const float> logits);

/// Sum of exp((logits - largest) * scale) over the logits that are not below `lowest`: f64, in an order that
/// depends on the size alone.
double sum_of_exp(std::span<const float> logits, float largest, float scale, float lowest);

}  // namespace mixserve::engine
