#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/dtype.h"

namespace mixserve {
namespace {

constexpr uint32_t n_patterns = 1u << 16;

/// What the 16 bits mean, from the definition: (-1)^sign * 1.mantissa * 2^(exponent - bias), in f64 (exact).
double value_of(uint16_t bits, int n_mantissa_bits, int bias) {
    const int exponent = (bits & 0x7fff) >> n_mantissa_bits;
    const int mantissa = bits & ((1 << n_mantissa_bits) - 1);
    const int top_exponent = 0x7fff >> n_mantissa_bits;
    const double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == top_exponent) {
        return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                             : std::numeric_limits<double>::quiet_NaN();
    }
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - n_mantissa_bits);
    return sign * std::ldexp(mantissa + (1 << n_mantissa_bits), exponent - bias - n_mantissa_bits);
}

struct Format {
    const char* name;
    int n_mantissa_bits;
    int bias;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
};

class SixteenBits : public testing::TestWithParam<Format> {};

TEST_P(SixteenBits, EveryPatternWidensToItsValue) {
    const Format& format = GetParam();
    for (uint32_t i = 0; i < n_patterns; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        const double expected = value_of(bits, format.n_mantissa_bits, format.bias);
        const float widened = format.widen(bits);
        if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(widened)) << i;
        } else {
            ASSERT_EQ(expected, static_cast<double>(widened)) << i;
            ASSERT_EQ(std::signbit(expected), std::signbit(widened)) << i;
        }
    }
}

TEST_P(SixteenBits, EveryPatternComesBack) {
    const Format& format = GetParam();
    for (uint32_t i = 0; i < n_patterns; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        const float widened = format.widen(bits);
        if (std::isnan(widened)) {
            ASSERT_TRUE(std::isnan(format.widen(format.narrow(widened)))) << i;
        } else {
            ASSERT_EQ(bits, format.narrow(widened)) << i;
        }
    }
}

// Between each two neighbours: the middle goes to the even one, what is nearer to one goes there.
TEST_P(SixteenBits, NarrowingRoundsToNearestEven) {
    const Format& format = GetParam();
    const uint16_t infinity = format.narrow(std::numeric_limits<float>::infinity());
    for (uint16_t low = 0; low + 1 < infinity; ++low) {
        const auto high = static_cast<uint16_t>(low + 1);
        const auto middle = static_cast<float>(
            (static_cast<double>(format.widen(low)) + static_cast<double>(format.widen(high))) / 2);
        for (const float sign : {1.0f, -1.0f}) {
            const uint16_t sign_bit = sign < 0 ? 0x8000 : 0;
            ASSERT_EQ(sign_bit | (low & 1 ? high : low), format.narrow(sign * middle)) << low;
            ASSERT_EQ(sign_bit | low, format.narrow(sign * std::nextafter(middle, 0.0f))) << low;
            ASSERT_EQ(sign_bit | high, format.narrow(sign * std::nextafter(middle, INFINITY))) << low;
        }
    }
}

TEST_P(SixteenBits, WhatIsTooLargeBecomesInfinity) {
    const Format& format = GetParam();
    const uint16_t infinity = format.narrow(std::numeric_limits<float>::infinity());
    EXPECT_TRUE(std::isinf(format.widen(infinity)));
    const auto largest = static_cast<double>(format.widen(static_cast<uint16_t>(infinity - 1)));
    const double half_step =
        (largest - static_cast<double>(format.widen(static_cast<uint16_t>(infinity - 2)))) / 2;
    const auto limit = static_cast<float>(largest + half_step);
    EXPECT_EQ(infinity - 1, format.narrow(std::nextafter(limit, 0.0f)));
    EXPECT_EQ(infinity, format.narrow(limit));
    EXPECT_EQ(infinity, format.narrow(std::numeric_limits<float>::max()));
    EXPECT_EQ(infinity | 0x8000, format.narrow(-std::numeric_limits<float>::max()));
}

TEST_P(SixteenBits, NanStaysNanWhateverItsPayload) {
    const Format& format = GetParam();
    for (const uint32_t bits :
         {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu, 0x7f80ffffu}) {
        EXPECT_TRUE(std::isnan(format.widen(format.narrow(std::bit_cast<float>(bits))))) << bits;
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, SixteenBits,
                         testing::Values(Format{"bf16", 7, 127, bf16_to_f32, f32_to_bf16},
                                         Format{"f16", 10, 15, f16_to_f32, f32_to_f16}),
                         [](const auto& test) { return test.param.name; });

TEST(DType, SpellingsOfCheckpointsAreKnown) {
    for (const char* text : {"bf16", "BF16", "bfloat16"})
        EXPECT_EQ(DType::bf16, parse_dtype(text)) << text;
    for (const char* text : {"f16", "F16", "float16"})
        EXPECT_EQ(DType::f16, parse_dtype(text)) << text;
    for (const char* text : {"f32", "F32", "float32"})
        EXPECT_EQ(DType::f32, parse_dtype(text)) << text;
    for (const char* text : {"", "f64", "I8", "bf16 ", "FP8"})
        EXPECT_EQ(std::nullopt, parse_dtype(text)) << text;
}

TEST(DType, NamesParseBack) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
        EXPECT_EQ(dtype, parse_dtype(name(dtype)));
}

TEST(DType, Sizes) {
    EXPECT_EQ(4, size_of(DType::f32));
    EXPECT_EQ(2, size_of(DType::f16));
    EXPECT_EQ(2, size_of(DType::bf16));
}

}  // namespace
}  // namespace mixserve
