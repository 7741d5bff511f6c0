// The host's half of a launch, which simt.cuh declares.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "device/cuda_check.h"

namespace mixserve::simt {

void check_launch(int code, const char* kernel) {
    if (code != 0) device::check_cuda(code, fmt::format("launch of {}", kernel).c_str());
}

void allow_shared_bytes(const void* kernel, size_t n_bytes, const char* name) {
    const cudaError_t code =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(n_bytes));
    if (code != cudaSuccess)
        device::check_cuda(code, fmt::format("{} bytes of shared memory for {}", n_bytes, name).c_str());
}

}  // namespace mixserve::simt
