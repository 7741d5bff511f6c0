#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "kernels/gpu_data.h"
#include "kernels/kernel_data.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

// Each against the CPU's, within a few roundings of the sums that differ in their order.

TEST(GpuElementwise, Norms) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    for (const int64_t width : {1, 24, 64, 300, 2048}) {
        const int64_t n_rows = 5, stride = width + 4;
        const std::vector<float> x = random_floats(static_cast<size_t>(n_rows * stride), 1);
        const std::vector<float> weight = random_floats(static_cast<size_t>(width), 2);
        std::vector<float> expected(static_cast<size_t>(n_rows * width));
        rms_norm(x.data(), stride, n_rows, width, weight.data(), 1e-6F, expected.data(), width, cpu);
        const OnGpu<float> gpu_x(x), gpu_weight(weight);
        OnGpu<float> out = unwritten(expected.size());
        rms_norm(gpu_x.data(), stride, n_rows, width, gpu_weight.data(), 1e-6F, out.data(), width,
                 gpu_stream());
        EXPECT_LE(norm_distance(out.read(), expected), 1e-6) << width;
    }
}

TEST(GpuElementwise, NormsOfHeads) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    for (const int64_t dim : {8, 64, 80, 128}) {
        const int64_t n_rows = 7, stride = 6 * dim;
        const std::vector<float> x = random_floats(static_cast<size_t>(n_rows * stride), 3);
        const std::vector<float> q = random_floats(static_cast<size_t>(dim), 4),
                                 k = random_floats(static_cast<size_t>(dim), 5);
        std::vector<float> expected = x;
        norm_heads(expected.data(), stride, n_rows, {3, 2, dim, q.data(), k.data(), 1e-6F}, cpu);
        OnGpu<float> out(x);
        const OnGpu<float> gpu_q(q), gpu_k(k);
        norm_heads(out.data(), stride, n_rows, {3, 2, dim, gpu_q.data(), gpu_k.data(), 1e-6F}, gpu_stream());
        EXPECT_LE(norm_distance(out.read(), expected), 1e-6) << dim;
    }
}

TEST(GpuElementwise, NormsOfAllHeadsTogether) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    const int64_t n_rows = 6, width = 48, stride = 100;
    const std::vector<float> x = random_floats(static_cast<size_t>(n_rows * stride), 6);
    const std::vector<float> weight = random_floats(static_cast<size_t>(width), 7);
    const std::vector<float> other = random_floats(static_cast<size_t>(2 * n_rows), 8, 5.0F);
    std::vector<float> sums(static_cast<size_t>(4 * n_rows), 1.0F);
    OnGpu<float> gpu_sums(sums);
    const OnGpu<float> gpu_weight(weight);
    OnGpu<float> gpu_x(x);
    std::vector<float> expected = x;
    sum_of_squares(expected.data(), stride, n_rows, width, sums.data() + 1, 2, cpu);
    sum_of_squares(gpu_x.data(), stride, n_rows, width, gpu_sums.data() + 1, 2, gpu_stream());
    EXPECT_LE(norm_distance(gpu_sums.read(), sums), 1e-6);
    const SummedNorm norm{weight.data(), width, 2 * width, sums.data(), 2, 2 * n_rows, 2, 1e-5F};
    scale_by_sums(expected.data(), stride, n_rows, norm, cpu);
    SummedNorm gpu_norm = norm;
    gpu_norm.weight = gpu_weight.data();
    gpu_norm.sums = gpu_sums.data();
    scale_by_sums(gpu_x.data(), stride, n_rows, gpu_norm, gpu_stream());
    EXPECT_LE(norm_distance(gpu_x.read(), expected), 1e-6);
}

TEST(GpuElementwise, Rope) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    const int64_t n_heads = 3, dim = 20, stride = 80;
    const std::vector<float> x = random_floats(5 * stride, 9);
    const std::vector<int32_t> positions = {0, 7, 3, 11, 11};
    const std::vector<float> cos = random_floats(12 * dim / 2, 10), sin = random_floats(12 * dim / 2, 11);
    std::vector<float> expected = x;
    apply_rope(expected.data(), stride, n_heads, dim, positions, cos.data(), sin.data(), cpu);
    OnGpu<float> out(x);
    const OnGpu<int32_t> gpu_positions(positions);
    const OnGpu<float> gpu_cos(cos), gpu_sin(sin);
    apply_rope(out.data(), stride, n_heads, dim, gpu_positions.span(), gpu_cos.data(), gpu_sin.data(),
               gpu_stream());
    EXPECT_LE(norm_distance(out.read(), expected), 1e-6);
}

TEST(GpuElementwise, ActivationsAndSums) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    const int64_t n_rows = 9, width = 123, n = n_rows * width;
    std::vector<float> a = random_floats(static_cast<size_t>(n), 12, 4.0F);
    a[5] = -200.0F;
    const std::vector<float> b = random_floats(static_cast<size_t>(n), 13);
    const std::vector<float> gate = random_floats(static_cast<size_t>(n_rows), 14);
    const OnGpu<float> gpu_a(a), gpu_b(b), gpu_gate(gate);
    std::vector<float> expected(a.size());
    silu_mul(a.data(), b.data(), n, expected.data(), cpu);
    OnGpu<float> out = unwritten(a.size());
    silu_mul(gpu_a.data(), gpu_b.data(), n, out.data(), gpu_stream());
    EXPECT_LE(norm_distance(out.read(), expected), 1e-6);

    add(b.data(), n, expected.data(), cpu);
    add(gpu_b.data(), n, out.data(), gpu_stream());
    EXPECT_LE(norm_distance(out.read(), expected), 1e-6);

    add_gated(b.data(), gate.data(), n_rows, width, expected.data(), cpu);
    add_gated(gpu_b.data(), gpu_gate.data(), n_rows, width, out.data(), gpu_stream());
    EXPECT_LE(norm_distance(out.read(), expected), 1e-6);

    clip(expected.data(), n, 0.7F, cpu);
    clip(out.data(), n, 0.7F, gpu_stream());
    EXPECT_LE(norm_distance(out.read(), expected), 1e-6);
}

TEST(GpuElementwise, RowsOfTables) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    const int64_t n_table = 10, width = 37;
    const std::vector<int32_t> tokens = {20, 29, 3, 25, 30};
    const OnGpu<int32_t> gpu_tokens(tokens);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        const Stored table(random_floats(static_cast<size_t>(n_table * width), 15), dtype);
        const OnGpu<std::byte> gpu_table(table.bytes);
        std::vector<float> expected(tokens.size() * static_cast<size_t>(width));
        embed_rows({table.bytes.data(), dtype, WeightLayout::out_in, n_table, width}, 20, tokens,
                   expected.data(), cpu);
        OnGpu<float> out = unwritten(expected.size());
        embed_rows({gpu_table.data(), dtype, WeightLayout::out_in, n_table, width}, 20, gpu_tokens.span(),
                   out.data(), gpu_stream());
        EXPECT_TRUE(same_bits(out.read(), expected)) << name(dtype);
    }
    const std::vector<float> x = random_floats(static_cast<size_t>(n_table * width), 16);
    const std::vector<int32_t> rows = {9, 0, 4};
    std::vector<float> expected(rows.size() * static_cast<size_t>(width));
    gather_rows(x.data(), width, rows, expected.data(), cpu);
    const OnGpu<float> gpu_x(x);
    const OnGpu<int32_t> gpu_rows(rows);
    OnGpu<float> out = unwritten(expected.size());
    gather_rows(gpu_x.data(), width, gpu_rows.span(), out.data(), gpu_stream());
    EXPECT_TRUE(same_bits(out.read(), expected));
}

}  // namespace
}  // namespace mixserve::kernels
