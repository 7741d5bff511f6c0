#pragma once

#include <cstdint>

#include "device/stream.h"

namespace mixserve::kernels {

/// Softmax over all experts in f32, then the `k` most probable, best first, ties to the lower index.
///   logits [n_rows, n_experts]; experts, weights [n_rows, k]
/// `renormalize`: the k weights are divided by their sum (norm_topk_prob; Mixtral's softmax over the k is the
/// same).
void route_top_k(const float* logits, int64_t n_rows, int64_t n_experts, int64_t k, bool renormalize,
                 int32_t* experts, float* weights, device::Stream& stream);

}  // namespace mixserve::kernels
