#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear.h"

namespace mixserve::kernels {

/// A layer's experts, or a rank's share of them: all stacked expert first. Borrowed.
///   gate, up [n_experts, intermediate_size, hidden_size]   (out_in)
///   down     [n_experts, intermediate_size, hidden_size]   (in_out: stored transposed)
struct ExpertWeights {
    const void* gate = nullptr;
    const void* up = nullptr;
    const void* down = nullptr;
    DType dtype = DType::f32;
    int64_t n_experts = 0;
    int64_t hidden_size = 0;
    int64_t intermediate_size = 0;
};

/// Which rows each expert takes, grouped by expert: expert e has entries [offsets[e], offsets[e + 1]).
struct ExpertRows {
    std::span<const int64_t> offsets;     // [n_experts + 1]
    std::span<const int32_t> rows;        // [n_entries], a row of x; rising within an expert
    std::span<const float> gate_weights;  // [n_entries]
};

/// out[t] = sum over the entries of row t, experts in rising order, of
///          gate_weight * down_e(silu(gate_e(x[t])) * up_e(x[t]));   rows without an entry become zero.
///   x, out [n_rows, hidden_size] contiguous; must not overlap.
/// With a split intermediate dimension this is the rank's partial sum. Same-bits promise as linear(): a row's
/// result depends on that row, its entries and the weights only. Polls the stream between tiles. Memory
/// beside the arguments is bounded, whatever the number of entries.
void expert_mlp(const float* x, int64_t n_rows, const ExpertRows& assignment, const ExpertWeights& weights,
                float* out, device::Stream& stream);

}  // namespace mixserve::kernels
