#pragma once

#include <cstdint>
#include <span>

#include "device/stream.h"
#include "kernels/linear.h"

namespace mixserve::kernels {

// All pointers are in stream.memory(): on a GPU, in device memory.

/// out[t] = x[t] / sqrt(mean(x[t]^2) + epsilon) * weight.  x, out [n_rows, width] with row strides; may be
/// the same. Sums in an order that depends on `width` alone.
void rms_norm(const float* x, int64_t x_stride, int64_t n_rows, int64_t width, const float* weight,
              float epsilon, float* out, int64_t out_stride, device::Stream& stream);

/// Norms of each query and each key head on its own, which lie side by side in a row, queries first.
struct HeadNorm {
    int64_t n_query_heads = 0;
    int64_t n_key_heads = 0;
    int64_t head_dim = 0;
    const float* query_weight = nullptr;  // [head_dim]
    const float* key_weight = nullptr;    // [head_dim]
    float epsilon = 0;
};
/// In place: rms_norm() of each head.
void norm_heads(float* qkv, int64_t stride, int64_t n_rows, const HeadNorm& norm, device::Stream& stream);

/// sums[t * sums_stride] = sum of the squares of x[t] [width].
void sum_of_squares(const float* x, int64_t stride, int64_t n_rows, int64_t width, float* sums,
                    int64_t sums_stride, device::Stream& stream);

/// A norm over more columns than a rank has: the ranks' sums of squares are added in their order.
struct SummedNorm {
    const float* weight = nullptr;  // [width] of this rank
    int64_t width = 0;              // of this rank
    int64_t total_width = 0;        // of all
    const float* sums = nullptr;    // part r of row t: sums[r * part_stride + t * row_stride]
    int64_t n_parts = 1;
    int64_t part_stride = 0;
    int64_t row_stride = 0;
    float epsilon = 0;
};
/// x[t] = x[t] / sqrt(sum over parts / total_width + epsilon) * weight.
void scale_by_sums(float* x, int64_t stride, int64_t n_rows, const SummedNorm& norm, device::Stream& stream);

/// x[i] to [-bound, bound].
void clip(float* x, int64_t n, float bound, device::Stream& stream);

/// out[t] = row tokens[t] - first_token of the table, widened; zeros where the table, which has n_out rows,
/// does not have it.
void embed_rows(const Weight& table, int64_t first_token, std::span<const int32_t> tokens, float* out,
                device::Stream& stream);

/// out[i] = x[rows[i]], rows of `width`.
void gather_rows(const float* x, int64_t width, std::span<const int32_t> rows, float* out,
                 device::Stream& stream);

/// Rotates the halves of each head in place (the "rotate half" form of GPT-NeoX and Hugging Face).
///   x [n_rows, n_heads * head_dim] (row stride `stride`); cos, sin [max_positions, head_dim / 2]; positions
///   [n_rows]
void apply_rope(float* x, int64_t stride, int64_t n_heads, int64_t head_dim,
                std::span<const int32_t> positions, const float* cos, const float* sin,
                device::Stream& stream);

/// out[i] = silu(gate[i]) * up[i], silu(v) = v / (1 + exp(-v)).  `out` may be `gate` or `up`.
void silu_mul(const float* gate, const float* up, int64_t n, float* out, device::Stream& stream);

/// The same on the calling thread alone, inside a task.
void silu_mul_on_this_thread(const float* gate, const float* up, int64_t n, float* out);

/// y[i] += x[i].
void add(const float* x, int64_t n, float* y, device::Stream& stream);

/// out[t] += sigmoid(gate[t]) * x[t], rows of `width`: the gate of a shared expert.
void add_gated(const float* x, const float* gate, int64_t n_rows, int64_t width, float* out,
               device::Stream& stream);

}  // namespace mixserve::kernels
