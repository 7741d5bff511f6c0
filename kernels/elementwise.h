#pragma once

#include <cstdint>
#include <span>

#include "device/stream.h"

namespace mixserve::kernels {

/// out[t] = x[t] / sqrt(mean(x[t]^2) + epsilon) * weight.  x, out [n_rows, width] with row strides; may be
/// the same. Sums in an order that depends on `width` alone.
void rms_norm(const float* x, int64_t x_stride, int64_t n_rows, int64_t width, const float* weight,
              float epsilon, float* out, int64_t out_stride, device::Stream& stream);

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
