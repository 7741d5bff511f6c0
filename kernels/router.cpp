#include "kernels/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "kernels/cuda/launch.h"

namespace mixserve::kernels {
namespace {

/// Rows of one task.
constexpr int64_t task_rows = 16;

/// Best first in `experts`, by insertion; a NaN ranks below every number.
void select_top_k(const float* logits, int64_t n_experts, int64_t k, int32_t* experts, float* best) {
    int64_t n_kept = 0;
    for (int64_t e = 0; e < n_experts; ++e) {
        const float logit = std::isnan(logits[e]) ? -std::numeric_limits<float>::infinity() : logits[e];
        if (n_kept == k && !(logit > best[k - 1])) continue;
        int64_t place = n_kept < k ? n_kept++ : k - 1;
        for (; place > 0 && logit > best[place - 1]; --place) {
            best[place] = best[place - 1];
            experts[place] = experts[place - 1];
        }
        best[place] = logit;
        experts[place] = static_cast<int32_t>(e);
    }
}

}  // namespace

void router_logits(const float* x, int64_t n_rows, const Weight& router, float* logits,
                   device::Stream& stream) {
    if (stream.gpu() != nullptr) {
        return cuda::linear(x, router.n_in, n_rows, router, nullptr, logits, router.n_out, true, stream);
    }
    linear(x, router.n_in, n_rows, router, nullptr, logits, router.n_out, stream);
}

void route_top_k(const float* logits, int64_t n_rows, int64_t n_experts, int64_t k, bool renormalize,
                 int32_t* experts, float* weights, device::Stream& stream, const int32_t* n_used) {
    if (stream.gpu() != nullptr)
        return cuda::route_top_k(logits, n_rows, n_experts, k, renormalize, experts, weights, n_used, stream);
    MIXSERVE_ASSERT(n_used == nullptr);
    stream.parallel_for((n_rows + task_rows - 1) / task_rows, [&](int64_t task, int) {
        const int64_t last = std::min((task + 1) * task_rows, n_rows);
        for (int64_t row = task * task_rows; row < last; ++row) {
            const float* row_logits = logits + row * n_experts;
            int32_t* chosen = experts + row * k;
            float* weight = weights + row * k;
            select_top_k(row_logits, n_experts, k, chosen, weight);
            const float largest = weight[0];
            float all = 0.0f;
            for (int64_t e = 0; e < n_experts; ++e)
                all += std::exp(row_logits[e] - largest);
            float kept = 0.0f;
            for (int64_t i = 0; i < k; ++i) {
                weight[i] = std::exp(row_logits[chosen[i]] - largest) / all;
                kept += weight[i];
            }
            for (int64_t i = 0; renormalize && i < k; ++i)
                weight[i] /= kept;
        }
    });
}

void count_choices(const int32_t* experts, int64_t n, int64_t n_experts, int64_t* counts,
                   device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::count_choices(experts, n, n_experts, counts, stream);
    for (int64_t i = 0; i < n; ++i) {
        if (experts[i] >= 0 && experts[i] < n_experts) ++counts[experts[i]];
    }
}

}  // namespace mixserve::kernels
