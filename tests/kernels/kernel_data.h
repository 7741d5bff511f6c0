#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "kernels/linear.h"

namespace mixserve::test {

/// Half a unit in the last place of 1.0f: the bound on the relative error of one rounding.
constexpr double unit_roundoff = 0x1p-24;

/// Bound on the relative error of `n` roundings one after the other (Higham, Accuracy and Stability,
/// section 3.1).
inline double gamma(int64_t n) {
    const double nu = static_cast<double>(n) * unit_roundoff;
    return nu / (1.0 - nu);
}

/// Roundings that a sum over `n` products passes through in linear(), at most: a chain of up to 128 in a
/// block of 512, then four chains of each block.
inline int64_t roundings_of_sum(int64_t n) {
    return std::min<int64_t>(n, 128) + 4 * ((n + 511) / 512) + 1;
}

/// True only when both are finite and no further apart than `tolerance`.
inline bool within(double actual, double expected, double tolerance) {
    return std::isfinite(actual) && std::isfinite(expected) && std::fabs(actual - expected) <= tolerance;
}

inline std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1.0f) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(n);
    for (float& v : values)
        v = normal(generator);
    return values;
}

/// Values in a stored type.
struct Stored {
    DType dtype = DType::f32;
    std::vector<std::byte> bytes;

    Stored(std::span<const float> values, DType type) : dtype(type), bytes(values.size() * size_of(type)) {
        for (size_t i = 0; i < values.size(); ++i) {
            const uint16_t bits = type == DType::bf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
            if (type == DType::f32) {
                std::memcpy(bytes.data() + 4 * i, &values[i], 4);
            } else {
                std::memcpy(bytes.data() + 2 * i, &bits, 2);
            }
        }
    }
    float operator[](size_t i) const {
        float value = 0.0f;
        if (dtype == DType::f32) {
            std::memcpy(&value, bytes.data() + 4 * i, 4);
            return value;
        }
        uint16_t bits = 0;
        std::memcpy(&bits, bytes.data() + 2 * i, 2);
        return dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
    }
};

inline std::vector<float> transposed(std::span<const float> values, int64_t n_rows, int64_t n_columns) {
    std::vector<float> out(values.size());
    for (int64_t r = 0; r < n_rows; ++r) {
        for (int64_t c = 0; c < n_columns; ++c)
            out[static_cast<size_t>(c * n_rows + r)] = values[static_cast<size_t>(r * n_columns + c)];
    }
    return out;
}

inline testing::AssertionResult same_bits(std::span<const float> a, std::span<const float> b) {
    if (a.size() != b.size())
        return testing::AssertionFailure() << a.size() << " against " << b.size() << " values";
    for (size_t i = 0; i < a.size(); ++i) {
        if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]))
            return testing::AssertionFailure() << "value " << i << ": " << a[i] << " against " << b[i];
    }
    return testing::AssertionSuccess();
}

/// Restricts Highway to some instruction sets while it lives.
class OnlyTargets {
  public:
    explicit OnlyTargets(int64_t targets) {
        hwy::SetSupportedTargetsForTest(targets);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
    ~OnlyTargets() {
        hwy::SetSupportedTargetsForTest(0);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
};

}  // namespace mixserve::test
