#pragma once

#include <cstdint>

#include "device/stream.h"
#include "kernels/linear.h"

namespace mixserve::kernels::cuda {

/// Whether the vendor's library for matrix products (cuBLASLt) can be loaded here; if not, `why` says what is
/// missing. It is loaded when it is first needed.
bool has_library_products(const char** why);

/// y[m, o] = sum_i x[m, i] * W[o, i] by the library: x [n_rows, n_in] in the weight's type, contiguous; y
/// f32.
void library_product(const void* x, int64_t n_rows, const Weight& weight, float* y, int64_t y_stride,
                     device::Stream& stream);

}  // namespace mixserve::kernels::cuda
