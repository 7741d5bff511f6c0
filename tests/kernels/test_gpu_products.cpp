#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/experts.h"
#include "kernels/gpu_data.h"
#include "kernels/kernel_data.h"
#include "kernels/linear.h"
#include "kernels/router.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

/// Relative error of a row's values as an operand of the tensor cores: in two parts, or in one.
double operand_error(DType dtype, bool split) {
    if (dtype == DType::f32) return 0.0;
    const int bits = dtype == DType::bf16 ? 8 : 11;
    return std::ldexp(1.0, split ? -2 * bits : -bits);
}

struct Shape {
    int64_t n_rows, n_in, n_out;
};

/// |y - CPU's y| against the operand's error and both sums' roundings, each times the sum of the products'
/// magnitudes.
void check_linear(const Shape& s, DType dtype, WeightLayout layout, bool has_bias, bool split) {
    SCOPED_TRACE(fmt::format("{} rows, {} to {}, {}, {}{}", s.n_rows, s.n_in, s.n_out, name(dtype),
                             layout == WeightLayout::out_in ? "out_in" : "in_out", has_bias ? ", bias" : ""));
    const int64_t x_stride = s.n_in + 3;
    const int64_t y_stride = s.n_out + 5;
    const std::vector<float> x = random_floats(static_cast<size_t>(s.n_rows * x_stride), 1);
    const std::vector<float> w = random_floats(static_cast<size_t>(s.n_in * s.n_out), 2);
    const std::vector<float> bias = random_floats(static_cast<size_t>(s.n_out), 3);
    const Stored stored(w, dtype);
    const Weight weight{stored.bytes.data(), dtype, layout, s.n_out, s.n_in};
    std::vector<float> expected(static_cast<size_t>(s.n_rows * y_stride), NAN);
    device::Stream cpu(1);
    linear(x.data(), x_stride, s.n_rows, weight, has_bias ? bias.data() : nullptr, expected.data(), y_stride,
           cpu);

    const OnGpu<float> gpu_x(x);
    const OnGpu<std::byte> gpu_w(stored.bytes);
    const OnGpu<float> gpu_bias(bias);
    OnGpu<float> y = unwritten(expected.size());
    Weight gpu_weight = weight;
    gpu_weight.data = gpu_w.data();
    linear(gpu_x.data(), x_stride, s.n_rows, gpu_weight, has_bias ? gpu_bias.data() : nullptr, y.data(),
           y_stride, gpu_stream());
    const std::vector<float> actual = y.read();
    for (int64_t r = 0; r < s.n_rows; ++r) {
        for (int64_t o = 0; o < y_stride; ++o) {
            const auto at = static_cast<size_t>(r * y_stride + o);
            if (o >= s.n_out) {
                ASSERT_TRUE(std::isnan(actual[at])) << "wrote past a row's end: row " << r << ", " << o;
                continue;
            }
            double magnitude = std::fabs(static_cast<double>(bias[static_cast<size_t>(o)]));
            for (int64_t k = 0; k < s.n_in; ++k) {
                const int64_t w_at = layout == WeightLayout::out_in ? o * s.n_in + k : k * s.n_out + o;
                magnitude += std::fabs(static_cast<double>(x[static_cast<size_t>(r * x_stride + k)]) *
                                       static_cast<double>(stored[static_cast<size_t>(w_at)]));
            }
            const double bound = magnitude * (operand_error(dtype, split) + 2 * gamma(2 * s.n_in + 8));
            ASSERT_TRUE(within(actual[at], expected[at], bound))
                << "row " << r << ", output " << o << ": " << actual[at] << " against " << expected[at]
                << ", bound " << bound;
        }
    }
}

TEST(GpuLinear, AgreesWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (const WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out}) {
            for (const Shape& s :
                 {Shape{1, 64, 64}, Shape{3, 200, 72}, Shape{17, 24, 130}, Shape{16, 1048, 40},
                  Shape{5, 7, 9}, Shape{2, 64, 1}, Shape{33, 129, 66}}) {
                for (const bool has_bias : {false, true}) {
                    check_linear(s, dtype, layout, has_bias, true);
                    if (HasFatalFailure()) return;
                }
            }
        }
    }
}

TEST(GpuLinear, ManyRowsAgreeWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (const WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out}) {
            for (const Shape& s : {Shape{65, 64, 136}, Shape{150, 264, 104}, Shape{130, 40, 257}}) {
                check_linear(s, dtype, layout, s.n_out == 136, false);
                if (HasFatalFailure()) return;
            }
        }
    }
}

TEST(GpuLinear, RouterLogitsKeepTheirPrecisionForManyRows) {
    MIXSERVE_NEEDS_GPU();
    const int64_t n_rows = 100, hidden = 136, n_experts = 24;
    const std::vector<float> x = random_floats(static_cast<size_t>(n_rows * hidden), 4);
    const Stored w(random_floats(static_cast<size_t>(n_experts * hidden), 5), DType::bf16);
    std::vector<float> expected(static_cast<size_t>(n_rows * n_experts));
    device::Stream cpu(1);
    router_logits(x.data(), n_rows, {w.bytes.data(), DType::bf16, WeightLayout::out_in, n_experts, hidden},
                  expected.data(), cpu);
    const OnGpu<float> gpu_x(x);
    const OnGpu<std::byte> gpu_w(w.bytes);
    OnGpu<float> logits = unwritten(expected.size());
    router_logits(gpu_x.data(), n_rows, {gpu_w.data(), DType::bf16, WeightLayout::out_in, n_experts, hidden},
                  logits.data(), gpu_stream());
    EXPECT_LE(norm_distance(logits.read(), expected), std::ldexp(1.0, -16));
}

TEST(GpuLinear, NoRowsAreNoWork) {
    MIXSERVE_NEEDS_GPU();
    OnGpu<float> y = unwritten(4);
    linear(nullptr, 8, 0, {nullptr, DType::bf16, WeightLayout::out_in, 4, 8}, nullptr, y.data(), 4,
           gpu_stream());
    EXPECT_TRUE(std::isnan(y.read()[0]));
}

/// A routing of `n_rows` rows: k different experts each; `skew` sends all of them to the first few.
struct Routed {
    std::vector<int32_t> experts;
    std::vector<float> weights;
    Routed(int64_t n_rows, int64_t n_experts, int64_t k, bool skew)
        : weights(static_cast<size_t>(n_rows * k)) {
        std::mt19937 random(7);
        std::vector<int32_t> all(static_cast<size_t>(n_experts));
        for (int64_t r = 0; r < n_rows; ++r) {
            std::iota(all.begin(), all.end(), 0);
            if (!skew) std::shuffle(all.begin(), all.end(), random);
            experts.insert(experts.end(), all.begin(), all.begin() + k);
        }
        for (float& w : weights)
            w = std::uniform_real_distribution<float>(0.05F, 1.0F)(random);
    }
};

struct HostRows {
    std::vector<int64_t> offsets;
    std::vector<int32_t> rows;
    std::vector<float> weights;
    HostRows(const Routed& routed, int64_t k, int64_t first, int64_t n) : offsets{0} {
        for (int64_t e = first; e < first + n; ++e) {
            for (size_t i = 0; i < routed.experts.size(); ++i) {
                if (routed.experts[i] != e) continue;
                rows.push_back(static_cast<int32_t>(static_cast<int64_t>(i) / k));
                weights.push_back(routed.weights[i]);
            }
            offsets.push_back(static_cast<int64_t>(rows.size()));
        }
    }
};

struct MlpShape {
    int64_t n_rows, n_experts, k, hidden, intermediate;
    bool skew;
};

/// Both forms against the CPU's, over a rank's share of the experts. The bound is on the norm of the whole:
/// operands are rounded twice (x, and the activations), and errors of independent sign grow like their norm.
void check_experts(const MlpShape& s, DType dtype, double bound) {
    SCOPED_TRACE(fmt::format("{} rows, {} of {} experts, {} x {}, {}{}", s.n_rows, s.k, s.n_experts, s.hidden,
                             s.intermediate, name(dtype), s.skew ? ", skewed" : ""));
    const Routed routed(s.n_rows, s.n_experts, s.k, s.skew);
    const int64_t first = s.n_experts / 4;
    const int64_t n_local = s.n_experts - first;
    const HostRows host(routed, s.k, first, n_local);
    const std::vector<float> x = random_floats(static_cast<size_t>(s.n_rows * s.hidden), 11);
    const auto n_weights = static_cast<size_t>(n_local * s.hidden * s.intermediate);
    const float scale = 1.0F / std::sqrt(static_cast<float>(s.hidden));
    const Stored gate(random_floats(n_weights, 12, scale), dtype);
    const Stored up(random_floats(n_weights, 13, scale), dtype);
    const Stored down(random_floats(n_weights, 14, scale), dtype);
    const ExpertRows rows{host.offsets, host.rows, host.weights};
    std::vector<float> expected(x.size());
    device::Stream cpu(1);
    expert_mlp(
        x.data(), s.n_rows, rows,
        {gate.bytes.data(), up.bytes.data(), down.bytes.data(), dtype, n_local, s.hidden, s.intermediate},
        expected.data(), cpu);

    const OnGpu<float> gpu_x(x);
    const OnGpu<std::byte> gpu_gate(gate.bytes), gpu_up(up.bytes), gpu_down(down.bytes);
    const OnGpu<int32_t> chosen(routed.experts);
    const OnGpu<float> chosen_weights(routed.weights);
    const ExpertWeights weights{gpu_gate.data(), gpu_up.data(), gpu_down.data(), dtype,
                                n_local,         s.hidden,      s.intermediate};
    OnGpu<float> from_host = unwritten(x.size());
    expert_mlp(gpu_x.data(), s.n_rows, rows, weights, from_host.data(), gpu_stream());
    const std::vector<float> actual = from_host.read();
    EXPECT_LE(norm_distance(actual, expected), bound);
    OnGpu<float> from_router = unwritten(x.size());
    expert_mlp(gpu_x.data(), s.n_rows, ChosenExperts{chosen.data(), chosen_weights.data(), s.k, first},
               weights, from_router.data(), gpu_stream());
    EXPECT_TRUE(same_bits(from_router.read(), actual)) << "sorted on the GPU or on the host";
}

TEST(GpuExperts, AgreeWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const MlpShape& s : {MlpShape{1, 8, 2, 64, 32, false}, MlpShape{21, 8, 3, 64, 40, false},
                              MlpShape{40, 4, 2, 72, 96, true}, MlpShape{6, 5, 5, 20, 12, false}}) {
        check_experts(s, DType::f32, 1e-6);
        check_experts(s, DType::bf16, 4 * operand_error(DType::bf16, true));
        check_experts(s, DType::f16, 1e-5);  // small halves lose bits below 2^-24
    }
}

TEST(GpuExperts, ManyRowsAgreeWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const bool skew : {false, true}) {
        const MlpShape s{180, 4, 2, 64, 72, skew};
        check_experts(s, DType::bf16, 2 * operand_error(DType::bf16, false));
        check_experts(s, DType::f16, 2 * operand_error(DType::f16, false));
    }
}

TEST(GpuExperts, RowsWithoutALocalExpertBecomeZero) {
    MIXSERVE_NEEDS_GPU();
    const std::vector<float> x = random_floats(2 * 16, 1);
    const Stored w(random_floats(2 * 16 * 8, 2), DType::bf16);
    const OnGpu<float> gpu_x(x);
    const OnGpu<std::byte> gpu_w(w.bytes);
    const OnGpu<int32_t> chosen(std::vector<int32_t>{0, 1, 1, 2});
    const OnGpu<float> weights(std::vector<float>{0.5F, 0.5F, 0.5F, 0.5F});
    OnGpu<float> out = unwritten(x.size());
    expert_mlp(gpu_x.data(), 2, ChosenExperts{chosen.data(), weights.data(), 2, 2},
               ExpertWeights{gpu_w.data(), gpu_w.data(), gpu_w.data(), DType::bf16, 2, 16, 8}, out.data(),
               gpu_stream());
    const std::vector<float> values = out.read();
    EXPECT_TRUE(std::all_of(values.begin(), values.begin() + 16, [](float v) { return v == 0.0F; }));
    EXPECT_TRUE(std::any_of(values.begin() + 16, values.end(), [](float v) { return v != 0.0F; }));
}

TEST(GpuRouter, ChoosesAsTheCpuDoes) {
    MIXSERVE_NEEDS_GPU();
    for (const auto& [n_rows, n_experts, k] :
         {std::tuple{1, 8, 2}, {70, 60, 4}, {9, 128, 8}, {5, 512, 10}, {3, 4, 4}}) {
        for (const bool renormalize : {false, true}) {
            std::vector<float> logits =
                random_floats(static_cast<size_t>(int64_t{n_rows} * n_experts), 21, 3.0F);
            for (size_t i = 0; i < logits.size(); i += 3)
                logits[i] = std::round(logits[i]);  // ties
            std::vector<int32_t> experts(static_cast<size_t>(n_rows * k));
            std::vector<float> weights(experts.size());
            device::Stream cpu(1);
            route_top_k(logits.data(), n_rows, n_experts, k, renormalize, experts.data(), weights.data(),
                        cpu);
            const OnGpu<float> gpu_logits(logits);
            OnGpu<int32_t> gpu_experts(std::vector<int32_t>(experts.size(), -1));
            OnGpu<float> gpu_weights = unwritten(weights.size());
            route_top_k(gpu_logits.data(), n_rows, n_experts, k, renormalize, gpu_experts.data(),
                        gpu_weights.data(), gpu_stream());
            EXPECT_EQ(gpu_experts.read(), experts) << n_rows << " rows, " << k << " of " << n_experts;
            EXPECT_LE(norm_distance(gpu_weights.read(), weights), 1e-6);
        }
    }
}

TEST(GpuRouter, RowsThatAreNotUsedChooseNothing) {
    MIXSERVE_NEEDS_GPU();
    const int64_t n_rows = 6, n_experts = 40, k = 33, n_used = 4;
    const OnGpu<float> logits(random_floats(static_cast<size_t>(n_rows * n_experts), 22));
    OnGpu<int32_t> all(std::vector<int32_t>(static_cast<size_t>(n_rows * k), 7)), some(all.read());
    OnGpu<float> weights = unwritten(static_cast<size_t>(n_rows * k));
    const OnGpu<int32_t> used(std::vector<int32_t>{n_used});
    route_top_k(logits.data(), n_rows, n_experts, k, true, all.data(), weights.data(), gpu_stream());
    route_top_k(logits.data(), n_rows, n_experts, k, true, some.data(), weights.data(), gpu_stream(),
                used.data());
    std::vector<int32_t> expected = all.read();
    std::fill(expected.begin() + n_used * k, expected.end(), -1);
    EXPECT_EQ(some.read(), expected);
}

TEST(GpuRouter, CountsAsTheCpuDoes) {
    MIXSERVE_NEEDS_GPU();
    const std::vector<int32_t> experts = Routed(300, 7, 2, true).experts;
    std::vector<int32_t> choices = experts;
    choices[5] = -1;  // of a row that is not there
    std::vector<int64_t> counts(7, 3);
    const OnGpu<int32_t> gpu_choices(choices);
    OnGpu<int64_t> gpu_counts(counts);
    const auto n = static_cast<int64_t>(choices.size());
    device::Stream cpu(1);
    count_choices(choices.data(), n, 7, counts.data(), cpu);
    count_choices(gpu_choices.data(), n, 7, gpu_counts.data(), gpu_stream());
    EXPECT_EQ(gpu_counts.read(), counts);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 7 * 3 + n - 1);
}

}  // namespace
}  // namespace mixserve::kernels
