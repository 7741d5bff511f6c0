#include <gtest/gtest.h>

#include <vector>

#include "kernels/elementwise.h"
#include "kernels/kernel_data.h"
#include "kernels/router.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

const std::vector<int64_t> sizes = {1, 3, 15, 16, 17, 63, 64, 65, 1000};

TEST(RmsNorm, AgreesWithDoubles) {
    for (const int64_t width : sizes) {
        const int64_t n_rows = 7;
        const auto n = static_cast<size_t>(n_rows * width);
        const std::vector<float> x = random_floats(n, 1, 3.0f);
        const std::vector<float> weight = random_floats(static_cast<size_t>(width), 2);
        std::vector<float> out(n, NAN);
        device::Stream stream(2);
        rms_norm(x.data(), width, n_rows, width, weight.data(), 1e-5f, out.data(), width, stream);
        for (int64_t r = 0; r < n_rows; ++r) {
            double sum = 0.0;
            for (int64_t i = 0; i < width; ++i)
                sum += std::pow(static_cast<double>(x[static_cast<size_t>(r * width + i)]), 2);
            const double scale =
                1.0 / std::sqrt(sum / static_cast<double>(width) + static_cast<double>(1e-5f));
            for (int64_t i = 0; i < width; ++i) {
                const auto at = static_cast<size_t>(r * width + i);
                const double expected =
                    static_cast<double>(x[at]) * scale * static_cast<double>(weight[static_cast<size_t>(i)]);
                // Squares add up in chains of width / 16 and a tree of 4; then 6 operations.
                ASSERT_TRUE(within(static_cast<double>(out[at]), expected,
                                   gamma(width / 16 + 12) * std::fabs(expected)))
                    << width << " " << i;
            }
        }
        std::vector<float> in_place = x;
        rms_norm(in_place.data(), width, n_rows, width, weight.data(), 1e-5f, in_place.data(), width, stream);
        EXPECT_TRUE(same_bits(out, in_place));
        std::vector<float> last(static_cast<size_t>(width));
        rms_norm(x.data() + 6 * width, width, 1, width, weight.data(), 1e-5f, last.data(), width, stream);
        EXPECT_TRUE(same_bits(last, {out.data() + 6 * width, static_cast<size_t>(width)}));
        if ((hwy::SupportedTargets() & HWY_AVX2) != 0) {
            const OnlyTargets avx2(HWY_AVX2);
            std::vector<float> again(n);
            rms_norm(x.data(), width, n_rows, width, weight.data(), 1e-5f, again.data(), width, stream);
            EXPECT_TRUE(same_bits(out, again));
        }
    }
}

TEST(Rope, RotatesHalvesOfEachHead) {
    for (const int64_t head_dim : {2, 6, 32, 64, 80, 128}) {
        const int64_t n_heads = 3;
        const int64_t stride = n_heads * head_dim + 5;
        const std::vector<int32_t> positions = {0, 4, 2, 9};
        const int64_t half = head_dim / 2;
        const std::vector<float> cos = random_floats(static_cast<size_t>(10 * half), 3);
        const std::vector<float> sin = random_floats(static_cast<size_t>(10 * half), 4);
        const std::vector<float> before = random_floats(static_cast<size_t>(4 * stride), 5);
        std::vector<float> x = before;
        device::Stream stream(2);
        apply_rope(x.data(), stride, n_heads, head_dim, positions, cos.data(), sin.data(), stream);
        for (int64_t t = 0; t < 4; ++t) {
            for (int64_t i = 0; i < stride; ++i) {
                const auto at = static_cast<size_t>(t * stride + i);
                if (i >= n_heads * head_dim) {
                    ASSERT_EQ(x[at], before[at]);
                    continue;
                }
                const int64_t d = i % head_dim;
                const bool lower = d < half;
                const auto partner = static_cast<size_t>(t * stride + (lower ? i + half : i - half));
                const auto angle = static_cast<size_t>(positions[static_cast<size_t>(t)] * half + d % half);
                const double a = static_cast<double>(before[at]) * static_cast<double>(cos[angle]);
                const double b = static_cast<double>(before[partner]) * static_cast<double>(sin[angle]);
                ASSERT_TRUE(within(static_cast<double>(x[at]), lower ? a - b : a + b,
                                   gamma(2) * (std::fabs(a) + std::fabs(b))));
            }
        }
    }
}

TEST(SiluMul, AgreesWithDoublesOverTheWholeRange) {
    for (const int64_t n : sizes) {
        std::vector<float> gate = random_floats(static_cast<size_t>(n), 6, 20.0f);
        gate[0] = 0.0f;
        if (n > 3) gate[1] = -200.0f, gate[2] = 200.0f;
        const std::vector<float> up = random_floats(static_cast<size_t>(n), 7);
        std::vector<float> out(static_cast<size_t>(n), NAN);
        device::Stream stream(2);
        silu_mul(gate.data(), up.data(), n, out.data(), stream);
        for (size_t i = 0; i < out.size(); ++i) {
            const auto g = static_cast<double>(gate[i]);
            const double expected = g / (1.0 + std::exp(-g)) * static_cast<double>(up[i]);
            // The exponential to 3 units, then a sum, a quotient and a product; below 1e-30 it may be flushed
            // to zero.
            ASSERT_TRUE(within(static_cast<double>(out[i]), expected, gamma(8) * std::fabs(expected) + 1e-30))
                << g << ": " << out[i] << " against " << expected;
        }
        std::vector<float> part(1);
        silu_mul(gate.data() + n - 1, up.data() + n - 1, 1, part.data(), stream);
        EXPECT_TRUE(same_bits(part, {out.data() + n - 1, 1}));
        silu_mul(gate.data(), up.data(), n, gate.data(), stream);
        EXPECT_TRUE(same_bits(out, gate));
    }
}

TEST(Add, AddsPlainAndGated) {
    for (const int64_t n : sizes) {
        const std::vector<float> x = random_floats(static_cast<size_t>(3 * n), 8);
        const std::vector<float> y = random_floats(static_cast<size_t>(3 * n), 9);
        device::Stream stream(2);
        std::vector<float> sum = y;
        add(x.data(), 3 * n, sum.data(), stream);
        for (size_t i = 0; i < sum.size(); ++i)
            ASSERT_EQ(sum[i], y[i] + x[i]);

        const std::vector<float> gate = {-1.5f, 0.0f, 30.0f};
        std::vector<float> gated = y;
        add_gated(x.data(), gate.data(), 3, n, gated.data(), stream);
        for (int64_t i = 0; i < 3 * n; ++i) {
            const auto at = static_cast<size_t>(i);
            const double term = static_cast<double>(x[at]) /
                                (1.0 + std::exp(-static_cast<double>(gate[at / static_cast<size_t>(n)])));
            const auto base = static_cast<double>(y[at]);
            ASSERT_TRUE(within(static_cast<double>(gated[at]), base + term,
                               gamma(6) * std::fabs(term) + gamma(1) * std::fabs(base + term)));
        }
    }
}

struct Routed {
    std::vector<int32_t> experts;
    std::vector<float> weights;
};

Routed route(std::span<const float> logits, int64_t n_experts, int64_t k, bool renormalize) {
    const int64_t n_rows = static_cast<int64_t>(logits.size()) / n_experts;
    Routed r{std::vector<int32_t>(static_cast<size_t>(n_rows * k), -1),
             std::vector<float>(static_cast<size_t>(n_rows * k), NAN)};
    device::Stream stream(2);
    route_top_k(logits.data(), n_rows, n_experts, k, renormalize, r.experts.data(), r.weights.data(), stream);
    return r;
}

TEST(Router, AgreesWithASort) {
    for (const int64_t n_experts : {1, 2, 8, 60, 64, 128}) {
        for (const int64_t k : {1, 2, 8}) {
            if (k > n_experts) continue;
            const int64_t n_rows = 35;
            const std::vector<float> logits =
                random_floats(static_cast<size_t>(n_rows * n_experts), 10, 2.0f);
            for (const bool renormalize : {false, true}) {
                const Routed r = route(logits, n_experts, k, renormalize);
                for (int64_t row = 0; row < n_rows; ++row) {
                    std::vector<double> p(static_cast<size_t>(n_experts));
                    double sum = 0.0;
                    for (size_t e = 0; e < p.size(); ++e) {
                        p[e] =
                            std::exp(static_cast<double>(logits[static_cast<size_t>(row * n_experts) + e]));
                        sum += p[e];
                    }
                    std::vector<int32_t> order(p.size());
                    for (size_t e = 0; e < p.size(); ++e)
                        order[e] = static_cast<int32_t>(e);
                    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
                        return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
                    });
                    double kept = 0.0;
                    for (int64_t i = 0; i < k; ++i)
                        kept += p[static_cast<size_t>(order[static_cast<size_t>(i)])];
                    for (int64_t i = 0; i < k; ++i) {
                        const auto at = static_cast<size_t>(row * k + i);
                        const int32_t expert = order[static_cast<size_t>(i)];
                        ASSERT_EQ(r.experts[at], expert);
                        const double expected = p[static_cast<size_t>(expert)] / (renormalize ? kept : sum);
                        // A logit's difference to the largest is at most 16 here, rounded once: 16 units in
                        // the exponential; the sum has n_experts terms.
                        ASSERT_TRUE(within(static_cast<double>(r.weights[at]), expected,
                                           gamma(2 * n_experts + 40) * expected));
                    }
                }
            }
        }
    }
}

TEST(Router, TiesGoToTheLowerIndex) {
    const std::vector<float> logits = {1, 3, 3, 0, 3, 1};
    const Routed r = route(logits, 6, 4, true);
    EXPECT_EQ(r.experts, (std::vector<int32_t>{1, 2, 4, 0}));
}

TEST(Router, NaNAndInfinityNeitherCrashNorRepeatAnExpert) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const std::vector<float>& logits : {std::vector<float>{NAN, NAN, NAN, NAN},
                                             {1, NAN, 2, NAN},
                                             {infinity, infinity, 0, 1},
                                             {-infinity, -infinity, -infinity, -infinity}}) {
        const Routed r = route(logits, 4, 3, true);
        std::vector<int32_t> sorted = r.experts;
        std::sort(sorted.begin(), sorted.end());
        EXPECT_TRUE(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
        EXPECT_GE(sorted.front(), 0);
        EXPECT_LT(sorted.back(), 4);
    }
    EXPECT_EQ(route(std::vector<float>{1, NAN, 2, NAN}, 4, 3, true).experts[0], 2);
}

}  // namespace
}  // namespace mixserve::kernels
