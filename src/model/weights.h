#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/stream.h"
#include "kernels/experts.h"
#include "kernels/linear.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/weight_source.h"

namespace mixserve::model {

// All memory is where kernels on the stream that the weights were loaded for read it.

/// Values in f32.
class Vector {
  public:
    Vector() = default;
    Vector(std::span<const float> values, device::Stream& stream)
        : storage_(device::place(values, stream)), size_(values.size()) {}
    bool empty() const { return size_ == 0; }
    const float* data() const { return storage_.as<float>().data(); }
    operator std::span<const float>() const { return {data(), size_}; }  // NOLINT: a view of itself

  private:
    device::Buffer storage_;
    size_t size_ = 0;
};

/// A matrix, or several stacked by rows, in stored type, with the memory it lies in.
struct Matrix {
    device::Buffer storage;
    kernels::Weight weight;
};

/// A gated MLP, this rank's share of the intermediate dimension: down(silu(gate x) * up x).
struct MlpWeights {
    Matrix gate;  // [I/p, H]
    Matrix up;    // [I/p, H]
    Matrix down;  // [I/p, H], stored transposed
};

/// This rank's share of one layer's routed experts, expert first.
struct ExpertStorage {
    device::Buffer gate;  // [E', I', H]
    device::Buffer up;    // [E', I', H]
    device::Buffer down;  // [E', I', H], stored transposed
    kernels::ExpertWeights weights;
};

/// This rank's share of one layer. Vectors are widened to f32.
struct LayerWeights {
    int64_t index = 0;
    Vector input_norm;           // [H]
    Vector post_attention_norm;  // [H]
    Matrix qkv;                  // [(q_heads + 2 kv_heads) D, H]
    Vector qkv_bias;             // same rows, or empty
    Vector q_norm;               // [D], or [q_heads D] where heads are normalised together, or empty
    Vector k_norm;
    Matrix o;       // [q_heads D, H], stored transposed
    Vector o_bias;  // [H], or empty

    bool sparse = true;
    Matrix router;  // [num_experts, H]
    ExpertStorage experts;
    std::optional<MlpWeights> shared_expert;
    Matrix shared_expert_gate;  // [1, H]
    std::optional<MlpWeights> dense;
};

/// This rank's share of the model.
struct Weights {
    Matrix embedding;  // [vocabulary/p, H]
    std::vector<LayerWeights> layers;
    Vector final_norm;  // [H]
    Matrix lm_head;     // [vocabulary/p, H]; with tied embeddings `lm_head_weight` is the embedding's
    kernels::Weight lm_head_weight;
    int64_t n_bytes = 0;
};

/// Called after each tensor with the bytes loaded so far on this rank.
using LoadProgress = std::function<void(int64_t n_bytes)>;

/// Reads this rank's hyperslabs; on a GPU in pieces through page-locked memory, each copied while the next is
/// read. UsageError names a tensor that is missing or has the wrong shape.
Weights load_weights(const ModelConfig& config, const RankLayout& layout, const WeightSource& source,
                     device::Stream& stream, const LoadProgress& progress = {});

}  // namespace mixserve::model
