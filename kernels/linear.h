#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "device/stream.h"

namespace mixserve::kernels {

/// How a weight matrix lies in memory: [n_out, n_in] as checkpoints have it, or transposed [n_in, n_out],
/// which makes the share of a rank that owns some of the inputs contiguous.
enum class WeightLayout : uint8_t { out_in, in_out };

/// A dense weight matrix in its stored type, rows contiguous. Borrowed.
struct Weight {
    const void* data = nullptr;
    DType dtype = DType::f32;
    WeightLayout layout = WeightLayout::out_in;
    int64_t n_out = 0;
    int64_t n_in = 0;
};

/// y[m, o] = bias[o] + sum_i x[m, i] * W[o, i], in f32.
///   x [n_rows, n_in] with row stride `x_stride`, y [n_rows, n_out] with row stride `y_stride`, bias [n_out]
///   or null (f32).
/// The order of each sum depends on n_in and the stored type alone (kernels/product.h): a row's result has
/// the same bits whatever rows are beside it, for any number of threads and for either layout of W.
/// On a GPU (pointers in device memory) the same call gives the same bits, but rows may be rounded to the
/// weight's 16-bit type first, and how they are depends on n_rows: see docs/gpu.md.
void linear(const float* x, int64_t x_stride, int64_t n_rows, const Weight& weight, const float* bias,
            float* y, int64_t y_stride, device::Stream& stream);

}  // namespace mixserve::kernels
