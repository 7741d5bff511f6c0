#pragma once

#include <cstdint>

#include "device/stream.h"
#include "kernels/linear.h"

namespace mixserve::kernels {

/// logits [n_rows, n_experts] = x [n_rows, hidden_size] times the router's weights. linear(), but for the
/// GPU, where x keeps its precision here: a choice of experts is not to hang on how x was rounded for the
/// tensor cores.
void router_logits(const float* x, int64_t n_rows, const Weight& router, float* logits,
                   device::Stream& stream);

/// Softmax over all experts in f32, then the `k` most probable, best first, ties to the lower index.
///   logits [n_rows, n_experts]; experts, weights [n_rows, k]
/// `renormalize`: the k weights are divided by their sum (norm_topk_prob; Mixtral's softmax over the k is the
/// same). `n_used`, on a GPU: where it lies in device memory, only the first *n_used rows choose, and the
/// others' experts become -1, which no operation counts or runs.
void route_top_k(const float* logits, int64_t n_rows, int64_t n_experts, int64_t k, bool renormalize,
                 int32_t* experts, float* weights, device::Stream& stream, const int32_t* n_used = nullptr);

/// counts[e] += how often e is among experts [n]; entries outside of [0, n_experts) are not counted.
void count_choices(const int32_t* experts, int64_t n, int64_t n_experts, int64_t* counts,
                   device::Stream& stream);

}  // namespace mixserve::kernels
