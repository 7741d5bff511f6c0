#pragma once

namespace mixserve::device {

/// Throws Error naming the call, CUDA's text for `code` (a cudaError_t), the GPU and what to do, unless it is
/// cudaSuccess.
void check_cuda(int code, const char* call);

}  // namespace mixserve::device
