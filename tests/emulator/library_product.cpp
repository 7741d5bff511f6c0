// The emulated GPU has no library of products: its own are used throughout.

#include "kernels/cuda/library_product.h"

namespace mixserve::kernels::cuda {

bool has_library_products(const char** why) {
    if (why != nullptr) *why = "the emulator has none";
    return false;
}

void library_product(const void*, int64_t, const Weight&, float*, int64_t, device::Stream&) {}

}  // namespace mixserve::kernels::cuda
