#include <gtest/gtest.h>

#include <vector>

#include "kernels/kernel_data.h"
#include "kernels/linear.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

const std::vector<DType> all_dtypes = {DType::f32, DType::f16, DType::bf16};

struct Problem {
    int64_t n_rows, n_in, n_out;
    std::vector<float> x;
    std::vector<float> bias;
    Stored out_in;
    Stored in_out;

    Problem(int64_t rows, int64_t in, int64_t out, DType dtype)
        : n_rows(rows),
          n_in(in),
          n_out(out),
          x(random_floats(static_cast<size_t>(rows * in), 1)),
          bias(random_floats(static_cast<size_t>(out), 2)),
          out_in(random_floats(static_cast<size_t>(out * in), 3), dtype),
          in_out(transposed(random_floats(static_cast<size_t>(out * in), 3), out, in), dtype) {}

    Weight weight(WeightLayout layout) const {
        const Stored& stored = layout == WeightLayout::out_in ? out_in : in_out;
        return {stored.bytes.data(), stored.dtype, layout, n_out, n_in};
    }
    std::vector<float> run(WeightLayout layout, int n_threads, bool with_bias = true) const {
        device::Stream stream(n_threads);
        std::vector<float> y(static_cast<size_t>(n_rows * n_out), NAN);
        linear(x.data(), n_in, n_rows, weight(layout), with_bias ? bias.data() : nullptr, y.data(), n_out,
               stream);
        return y;
    }
    /// Rows `first` to `first + n` alone.
    std::vector<float> run_rows(int64_t first, int64_t n) const {
        device::Stream stream(1);
        std::vector<float> y(static_cast<size_t>(n * n_out), NAN);
        linear(x.data() + first * n_in, n_in, n, weight(WeightLayout::out_in), bias.data(), y.data(), n_out,
               stream);
        return y;
    }
};

void expect_near_reference(const Problem& p, std::span<const float> y, bool with_bias) {
    const double bound = gamma(roundings_of_sum(p.n_in));
    for (int64_t m = 0; m < p.n_rows; ++m) {
        for (int64_t o = 0; o < p.n_out; ++o) {
            double sum = with_bias ? static_cast<double>(p.bias[static_cast<size_t>(o)]) : 0.0;
            double magnitude = std::fabs(sum);
            for (int64_t i = 0; i < p.n_in; ++i) {
                const double product = static_cast<double>(p.x[static_cast<size_t>(m * p.n_in + i)]) *
                                       static_cast<double>(p.out_in[static_cast<size_t>(o * p.n_in + i)]);
                sum += product;
                magnitude += std::fabs(product);
            }
            const auto actual = static_cast<double>(y[static_cast<size_t>(m * p.n_out + o)]);
            ASSERT_TRUE(within(actual, sum, bound * magnitude))
                << "row " << m << " output " << o << ": " << actual << " against " << sum;
        }
    }
}

TEST(Linear, AgreesWithDoublesOverOddSizes) {
    const std::vector<std::array<int64_t, 3>> shapes = {
        {1, 1, 1},    {1, 7, 3},    {2, 8, 17},   {3, 63, 65},   {4, 64, 64}, {5, 257, 31},  {7, 256, 33},
        {12, 300, 1}, {13, 65, 96}, {17, 16, 63}, {1, 520, 130}, {3, 1, 40},  {25, 513, 47}, {64, 40, 129},
    };
    for (const auto& [n_rows, n_in, n_out] : shapes) {
        for (const DType dtype : all_dtypes) {
            const Problem p(n_rows, n_in, n_out, dtype);
            for (const bool with_bias : {false, true}) {
                const std::vector<float> y = p.run(WeightLayout::out_in, 1, with_bias);
                SCOPED_TRACE(testing::Message()
                             << n_rows << "x" << n_in << "x" << n_out << " " << name(dtype));
                expect_near_reference(p, y, with_bias);
                if (HasFatalFailure()) return;
                EXPECT_TRUE(same_bits(y, p.run(WeightLayout::in_out, 1, with_bias))) << "layouts";
                EXPECT_TRUE(same_bits(y, p.run(WeightLayout::out_in, 2, with_bias))) << "threads";
                EXPECT_TRUE(same_bits(y, p.run(WeightLayout::in_out, 2, with_bias))) << "layouts and threads";
            }
        }
    }
}

TEST(Linear, ARowHasTheSameBitsAloneAndInAnyBatch) {
    for (const DType dtype : all_dtypes) {
        const Problem p(61, 777, 100, dtype);
        const std::vector<float> all = p.run(WeightLayout::out_in, 2);
        for (const int64_t n : {1, 2, 3, 4, 5, 6, 11, 12, 13, 24, 37}) {
            const int64_t first = 61 - n;
            const std::span<const float> part(all.data() + first * p.n_out, static_cast<size_t>(n * p.n_out));
            EXPECT_TRUE(same_bits(part, p.run_rows(first, n))) << n << " rows, " << name(dtype);
        }
    }
}

TEST(Linear, TheProductIsSharedWithoutChangingBits) {
    const Problem p(3, 512, 700, DType::bf16);
    EXPECT_TRUE(same_bits(p.run(WeightLayout::out_in, 1), p.run(WeightLayout::out_in, 3)));
    EXPECT_TRUE(same_bits(p.run(WeightLayout::out_in, 1), p.run(WeightLayout::in_out, 2)));
}

TEST(Linear, StridesLeaveTheGapsAlone) {
    const Problem p(5, 20, 9, DType::f32);
    std::vector<float> x(5 * 32, NAN);
    for (int64_t r = 0; r < 5; ++r)
        std::copy_n(p.x.data() + r * 20, 20, x.data() + r * 32);
    std::vector<float> y(5 * 16, -7.0f);
    device::Stream stream(2);
    linear(x.data(), 32, 5, p.weight(WeightLayout::out_in), p.bias.data(), y.data(), 16, stream);
    const std::vector<float> dense = p.run(WeightLayout::out_in, 1);
    for (size_t r = 0; r < 5; ++r) {
        EXPECT_TRUE(same_bits({y.data() + r * 16, 9}, {dense.data() + r * 9, 9}));
        for (size_t o = 9; o < 16; ++o)
            EXPECT_EQ(y[r * 16 + o], -7.0f);
    }
}

TEST(Linear, EveryHalfPrecisionValueIsWidenedExactly) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
        std::vector<uint16_t> bits(1 << 16);
        for (size_t i = 0; i < bits.size(); ++i)
            bits[i] = static_cast<uint16_t>(i);
        const float one = 1.0f;
        for (const WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out}) {
            std::vector<float> y(bits.size());
            device::Stream stream(1);
            linear(&one, 1, 1, {bits.data(), dtype, layout, 1 << 16, 1}, nullptr, y.data(), 1 << 16, stream);
            for (size_t i = 0; i < bits.size(); ++i) {
                const float expected = dtype == DType::f16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
                ASSERT_TRUE(std::isnan(expected) ? std::isnan(y[i]) : y[i] == expected)
                    << name(dtype) << " " << i;
            }
        }
        // Eight products a column, so that whole vectors are transposed: 1 * w + 0 * the neighbours (finite
        // ones).
        std::vector<uint16_t> finite;
        for (const uint16_t b : bits) {
            if (std::isfinite(dtype == DType::f16 ? f16_to_f32(b) : bf16_to_f32(b))) finite.push_back(b);
        }
        finite.resize(finite.size() / 8 * 8);
        const auto n_out = static_cast<int64_t>(finite.size() / 8);
        for (int64_t k = 0; k < 8; ++k) {
            std::vector<float> x(8, 0.0f);
            x[static_cast<size_t>(k)] = 1.0f;
            std::vector<float> y(static_cast<size_t>(n_out));
            device::Stream stream(1);
            linear(x.data(), 8, 1, {finite.data(), dtype, WeightLayout::out_in, n_out, 8}, nullptr, y.data(),
                   n_out, stream);
            for (size_t o = 0; o < y.size(); ++o) {
                const uint16_t b = finite[o * 8 + static_cast<size_t>(k)];
                ASSERT_EQ(y[o], dtype == DType::f16 ? f16_to_f32(b) : bf16_to_f32(b)) << name(dtype);
            }
        }
    }
}

TEST(Linear, InstructionSetsWithFusedProductsGiveTheSameBits) {
    if ((hwy::SupportedTargets() & HWY_AVX2) == 0) GTEST_SKIP() << "no AVX2 here";
    for (const DType dtype : all_dtypes) {
        for (const int64_t n_rows : {1, 3, 9, 30}) {
            const Problem p(n_rows, 300, 77, dtype);
            const std::vector<float> best = p.run(WeightLayout::out_in, 1);
            const OnlyTargets avx2(HWY_AVX2);
            EXPECT_TRUE(same_bits(best, p.run(WeightLayout::out_in, 1)));
            EXPECT_TRUE(same_bits(best, p.run(WeightLayout::in_out, 1)));
        }
    }
}

TEST(Linear, TheBaselineAgreesWithDoubles) {
    const OnlyTargets none(HWY_SCALAR);
    for (const DType dtype : all_dtypes) {
        const Problem p(5, 300, 19, dtype);
        // Products are rounded before they are added: one rounding more each.
        const std::vector<float> y = p.run(WeightLayout::in_out, 1);
        expect_near_reference(p, y, true);
    }
}

TEST(Within, RefusesNaNAndInfinity) {
    EXPECT_TRUE(within(1.0, 1.5, 0.5));
    EXPECT_FALSE(within(1.0, 1.5, 0.4));
    EXPECT_FALSE(within(NAN, 1.0, 1e30));
    EXPECT_FALSE(within(1.0, NAN, 1e30));
    EXPECT_FALSE(within(INFINITY, INFINITY, 1e30));
    EXPECT_FALSE(within(1.0, 1.0, NAN));
}

}  // namespace
}  // namespace mixserve::kernels
