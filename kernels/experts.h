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

/// What the router chose, as it lies in memory (stream.memory()): row t has experts[t * k + j] with gate
/// weights weights[t * k + j]; the experts of a row differ.
struct ChosenExperts {
    const int32_t* experts = nullptr;  // [n_rows, k]
    const float* weights = nullptr;    // [n_rows, k]
    int64_t k = 0;
    int64_t first_expert = 0;  // of the stacked weights: others (and -1) are left out
    /// How many entries the stacked experts have between them, at most and as expected: what memory and the
    /// way to multiply are chosen by. Negative: one for each of `experts`.
    int64_t max_entries = -1;
    int64_t likely_entries = -1;
};

/// out[t] = sum over the entries of row t, experts in rising order, of
///          gate_weight * down_e(silu(gate_e(x[t])) * up_e(x[t]));   rows without an entry become zero.
///   x, out [n_rows, hidden_size] contiguous; must not overlap.
/// With a split intermediate dimension this is the rank's partial sum. Same-bits promise as linear(): a row's
/// result depends on that row, its entries and the weights only. Polls the stream between tiles. Memory
/// beside the arguments is bounded, whatever the number of entries.
/// On a GPU x and out are device memory, `assignment` is the host's, and linear()'s words on rounding hold.
void expert_mlp(const float* x, int64_t n_rows, const ExpertRows& assignment, const ExpertWeights& weights,
                float* out, device::Stream& stream);

/// The same from the router's choice, on a GPU only: nothing comes to the host.
void expert_mlp(const float* x, int64_t n_rows, const ChosenExperts& chosen, const ExpertWeights& weights,
                float* out, device::Stream& stream);

}  // namespace mixserve::kernels
