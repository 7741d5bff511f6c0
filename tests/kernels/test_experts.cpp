#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/experts.h"
#include "kernels/kernel_data.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

struct Assignment {
    std::vector<int64_t> offsets;
    std::vector<int32_t> rows;
    std::vector<float> gate_weights;
    ExpertRows view() const { return {offsets, rows, gate_weights}; }
};

/// Row t takes the experts chosen[t]; the gate weight of (t, e) depends on t and e alone.
Assignment assign(const std::vector<std::vector<int64_t>>& chosen, int64_t n_experts) {
    Assignment a;
    a.offsets.push_back(0);
    for (int64_t e = 0; e < n_experts; ++e) {
        for (size_t t = 0; t < chosen.size(); ++t) {
            if (std::find(chosen[t].begin(), chosen[t].end(), e) == chosen[t].end()) continue;
            a.rows.push_back(static_cast<int32_t>(t));
            a.gate_weights.push_back(0.05f +
                                     0.01f * static_cast<float>((t * 7 + static_cast<size_t>(e) * 3) % 11));
        }
        a.offsets.push_back(static_cast<int64_t>(a.rows.size()));
    }
    return a;
}

std::vector<std::vector<int64_t>> random_choice(size_t n_rows, int64_t n_experts, size_t k, uint32_t seed) {
    std::mt19937 generator(seed);
    std::vector<std::vector<int64_t>> chosen(n_rows);
    for (auto& row : chosen) {
        std::vector<int64_t> all(static_cast<size_t>(n_experts));
        std::iota(all.begin(), all.end(), 0);
        std::shuffle(all.begin(), all.end(), generator);
        row.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k));
    }
    return chosen;
}

struct Layer {
    int64_t n_experts, hidden, intermediate;
    Stored gate, up, down;

    Layer(int64_t experts, int64_t h, int64_t i, DType dtype)
        : n_experts(experts),
          hidden(h),
          intermediate(i),
          gate(random_floats(static_cast<size_t>(experts * h * i), 11, 0.3f), dtype),
          up(random_floats(static_cast<size_t>(experts * h * i), 12, 0.3f), dtype),
          down(random_floats(static_cast<size_t>(experts * h * i), 13, 0.3f), dtype) {}

    std::vector<float> run(std::span<const float> x, const Assignment& a, int n_threads) const {
        const int64_t n_rows = static_cast<int64_t>(x.size()) / hidden;
        std::vector<float> out(x.size(), NAN);
        device::Stream stream(n_threads);
        expert_mlp(x.data(), n_rows, a.view(),
                   {gate.bytes.data(), up.bytes.data(), down.bytes.data(), gate.dtype, n_experts, hidden,
                    intermediate},
                   out.data(), stream);
        return out;
    }
};

/// In doubles, with the bound that follows each value: an error d of a gate moves silu by at most 1.1 d, an
/// activation takes some roundings of its own (exp to 3 units, the rest 5 operations), and the sum over `n`
/// products its gamma.
void expect_near_reference(const Layer& layer, std::span<const float> x, const Assignment& a,
                           std::span<const float> actual) {
    std::vector<double> expected(x.size(), 0.0);
    std::vector<double> bound(x.size(), 0.0);
    const auto h = static_cast<size_t>(layer.hidden);
    const auto width = static_cast<size_t>(layer.intermediate);
    const double up_gamma = gamma(roundings_of_sum(layer.hidden));
    const auto n_sums = roundings_of_sum(layer.intermediate) + 4 * layer.n_experts;
    for (size_t e = 0; e < static_cast<size_t>(layer.n_experts); ++e) {
        for (auto entry = static_cast<size_t>(a.offsets[e]); entry < static_cast<size_t>(a.offsets[e + 1]);
             ++entry) {
            const auto row = static_cast<size_t>(a.rows[entry]);
            for (size_t i = 0; i < width; ++i) {
                const size_t at = (e * width + i) * h;
                double g = 0, u = 0, g_magnitude = 0, u_magnitude = 0;
                for (size_t k = 0; k < h; ++k) {
                    const auto v = static_cast<double>(x[row * h + k]);
                    g += v * static_cast<double>(layer.gate[at + k]);
                    u += v * static_cast<double>(layer.up[at + k]);
                    g_magnitude += std::fabs(v * static_cast<double>(layer.gate[at + k]));
                    u_magnitude += std::fabs(v * static_cast<double>(layer.up[at + k]));
                }
                const double silu = g / (1.0 + std::exp(-g));
                const auto weight = static_cast<double>(a.gate_weights[entry]);
                const double activation = weight * silu * u;
                const double error =
                    weight * (1.1 * up_gamma * g_magnitude * (std::fabs(u) + up_gamma * u_magnitude) +
                              std::fabs(silu) * up_gamma * u_magnitude) +
                    gamma(8) * std::fabs(activation);
                for (size_t o = 0; o < h; ++o) {
                    const auto d = static_cast<double>(layer.down[at + o]);
                    expected[row * h + o] += activation * d;
                    bound[row * h + o] +=
                        std::fabs(d) * (error + gamma(n_sums) * (std::fabs(activation) + error));
                }
            }
        }
    }
    for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_TRUE(within(static_cast<double>(actual[i]), expected[i], bound[i]))
            << "value " << i << ": " << actual[i] << " against " << expected[i] << ", bound " << bound[i];
}

TEST(Experts, AgreeWithDoublesOverOddSizes) {
    struct Shape {
        size_t n_rows;
        int64_t n_experts, hidden, intermediate;
        size_t k;
    };
    for (const Shape& s : {Shape{1, 4, 17, 9, 2}, Shape{3, 8, 64, 63, 3}, Shape{17, 5, 65, 33, 2},
                           Shape{40, 3, 40, 300, 3}, Shape{2, 16, 300, 70, 8}, Shape{63, 2, 31, 65, 1}}) {
        for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
            SCOPED_TRACE(testing::Message() << s.n_rows << " rows, " << s.n_experts << " experts " << s.hidden
                                            << "x" << s.intermediate << " " << name(dtype));
            const Layer layer(s.n_experts, s.hidden, s.intermediate, dtype);
            const std::vector<float> x = random_floats(s.n_rows * static_cast<size_t>(s.hidden), 5);
            const Assignment a = assign(random_choice(s.n_rows, s.n_experts, s.k, 6), s.n_experts);
            const std::vector<float> out = layer.run(x, a, 1);
            expect_near_reference(layer, x, a, out);
            if (HasFatalFailure()) return;
            EXPECT_TRUE(same_bits(out, layer.run(x, a, 2)));
            EXPECT_TRUE(same_bits(out, layer.run(x, a, 3)));
        }
    }
}

TEST(Experts, ARowHasTheSameBitsAloneAndInAnyBatch) {
    const Layer layer(8, 300, 270, DType::bf16);
    const size_t n_rows = 90;
    const std::vector<float> x = random_floats(n_rows * 300, 7);
    const auto chosen = random_choice(n_rows, 8, 3, 8);
    const Assignment whole = assign(chosen, 8);
    const std::vector<float> all = layer.run(x, whole, 2);
    for (const size_t row : {size_t{0}, size_t{41}, size_t{89}}) {
        // Alone, with the entries that it had in the batch.
        Assignment one;
        one.offsets.push_back(0);
        for (size_t e = 0; e < 8; ++e) {
            for (auto i = static_cast<size_t>(whole.offsets[e]);
                 i < static_cast<size_t>(whole.offsets[e + 1]); ++i) {
                if (static_cast<size_t>(whole.rows[i]) != row) continue;
                one.rows.push_back(0);
                one.gate_weights.push_back(whole.gate_weights[i]);
            }
            one.offsets.push_back(static_cast<int64_t>(one.rows.size()));
        }
        EXPECT_TRUE(same_bits({all.data() + row * 300, 300}, layer.run({x.data() + row * 300, 300}, one, 1)));
    }
}

TEST(Experts, RowsWithoutAnEntryAndEmptyExpertsGiveZeros) {
    const Layer layer(4, 20, 12, DType::f32);
    const std::vector<float> x = random_floats(5 * 20, 9);
    const Assignment a = assign({{2}, {}, {2}, {}, {2}}, 4);
    const std::vector<float> out = layer.run(x, a, 2);
    expect_near_reference(layer, x, a, out);
    for (size_t i = 0; i < 20; ++i) {
        EXPECT_EQ(out[20 + i], 0.0f);
        EXPECT_EQ(out[60 + i], 0.0f);
        EXPECT_NE(out[i], 0.0f);
    }
    for (const float v : layer.run(x, assign({{}, {}, {}, {}, {}}, 4), 1))
        EXPECT_EQ(v, 0.0f);
}

TEST(Experts, MoreEntriesThanOneChunkHolds) {
    // 16 MB hold 127 entries of this size, so the rows of an expert are cut.
    const int64_t hidden = 32768;
    const Layer layer(2, hidden, 1, DType::bf16);
    const size_t n_rows = 150;
    const std::vector<float> x = random_floats(n_rows * static_cast<size_t>(hidden), 10, 0.05f);
    const Assignment a = assign(random_choice(n_rows, 2, 2, 3), 2);
    const std::vector<float> out = layer.run(x, a, 2);
    expect_near_reference(layer, x, a, out);
}

TEST(Experts, PollsTheStream) {
    const Layer layer(4, 64, 64, DType::f32);
    const std::vector<float> x = random_floats(8 * 64, 9);
    const Assignment a = assign(random_choice(8, 4, 2, 1), 4);
    std::vector<float> out(x.size());
    device::Stream stream(1);
    int n_polls = 0;
    stream.set_poll([&] { ++n_polls; });
    expert_mlp(
        x.data(), 8, a.view(),
        {layer.gate.bytes.data(), layer.up.bytes.data(), layer.down.bytes.data(), DType::f32, 4, 64, 64},
        out.data(), stream);
    EXPECT_GT(n_polls, 4);
}

}  // namespace
}  // namespace mixserve::kernels
