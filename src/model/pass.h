#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/phase.h"
#include "comm/exchange.h"
#include "comm/tensor_group.h"
#include "device/buffer.h"
#include "device/stream.h"
#include "kernels/sampling.h"
#include "model/batch.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/layout.h"
#include "model/rope.h"
#include "model/weights.h"

namespace mixserve::model {

/// Sees what the router chose for the owned tokens of a layer: experts [n_tokens, k], best first. For tests
/// and studies: with a GPU, every layer waits for it.
using RouterObserver =
    std::function<void(int64_t layer, std::span<const int32_t> experts, int64_t first_token)>;

/// What a rank's forward passes work on. All borrowed.
struct PassContext {
    const ModelConfig& config;
    const RankLayout& layout;
    const Weights& weights;
    const PlacedRopeTable& rope;
    const KvCache& kv_cache;
    comm::TensorGroup& group;  // the ranks that split attention
    comm::Exchange& exchange;
    device::Stream& stream;
    PhaseTimer& timer;
    std::vector<int32_t> kv_head_of;   // kv_heads_of()
    int64_t* expert_counts = nullptr;  // [num_hidden_layers, num_experts] in the stream's memory: what the
                                       // router chose for owned tokens is added; null: not counted
    RouterObserver observe_router = {};
};

/// Local KV head of each local query head.
std::vector<int32_t> kv_heads_of(const ModelConfig& config, const RankLayout& layout);

/// Activations of one rank, kept between steps. T: tokens of the batch; T/p: those that this rank owns.
struct Activations {
    device::Buffer x;               // [T/p, H] residual stream
    device::Buffer normed;          // [T/p, H]
    device::Buffer qkv;             // [T, (q + 2 kv) D]
    device::Buffer attention;       // [T, q D]
    device::Buffer gate;            // [T, I/p] of dense MLPs and shared experts
    device::Buffer up;              // [T, I/p]
    device::Buffer router;          // [T/p, num_experts]
    device::Buffer expert_ids;      // [T/p, k]
    device::Buffer expert_weights;  // [T/p, k]
    device::Buffer moe;             // [T/p, H]
    device::Buffer logit_input;     // [logit rows, H]
    device::Buffer step_numbers;    // on a GPU: the batch's tokens, positions and logit rows
    device::Buffer logits;          // on a GPU: a tile of logits that came to the host, page-locked
};

/// What a step is made from, where kernels read it: in the batch itself, or uploaded, the numbers to
/// Activations::step_numbers. Borrows the batch.
struct StepInputs {
    std::span<const int32_t> tokens;
    std::span<const int32_t> positions;
    std::span<const int32_t> logit_rows;
    const int32_t* n_used =
        nullptr;  // where the number of rows that are not padding lies; null: there is none
    kernels::AttentionBatch attention;
};
StepInputs place_inputs(const PassContext& context, const Batch& batch, Activations& activations);

/// The operations that the families' forward passes are written with: each on the batch's rows, in place or
/// into the activations named above. One object a step.
class Pass {
  public:
    Pass(const PassContext& context, int64_t n_tokens, const StepInputs& inputs, Activations& activations);

    const ModelConfig& config() const { return c_.config; }
    std::span<const LayerWeights> layers() const { return c_.weights.layers; }

    /// x [T/p, H] <- rows of the embedding, which is split by vocabulary. Later pipeline stages have x
    /// already.
    void embed();
    void begin_layer(const LayerWeights& layer);

    /// normed [T/p, H] <- rms_norm(x).
    void norm(std::span<const float> weight);
    /// All rows of `normed`: [T, H], valid until the next gather.
    const float* gather_normed();

    /// qkv [T, (q + 2 kv) D] <- h [T, H] times the stacked projections, q_heads, then keys, then values.
    void project_qkv(const float* h, const LayerWeights& layer);
    void norm_each_head(std::span<const float> q_weight, std::span<const float> k_weight);
    void norm_all_heads(std::span<const float> q_weight, std::span<const float> k_weight);
    void clip_qkv(double limit);
    void rotate();
    /// Stores keys and values, then attention [T, q D] <- softmax(q k / sqrt(D)) v over each sequence's
    /// cache.
    void attend(const LayerWeights& layer);
    /// x [T/p, H] += the sum over the group of attention [T, q D] times each rank's rows of O.
    void project_out(const LayerWeights& layer);

    /// Chooses experts for `normed` [T/p, H], runs them wherever they are; moe [T/p, H] <- their
    /// gate-weighted sum.
    void experts(const LayerWeights& layer);
    /// moe += sigmoid(gate . normed) * shared_expert(h), h [T, H].
    void add_shared_expert(const LayerWeights& layer, const float* h);
    void add_moe_to_residual();
    /// x += dense MLP of h [T, H].
    void add_dense_mlp(const LayerWeights& layer, const float* h);

    int64_t n_owned() const { return owned_.size(); }

  private:
    float* partial_mlp(const MlpWeights& mlp, const float* h);
    void show_router(int64_t layer, std::span<const int32_t> ids) const;
    /// Memory for `n` floats of an activation where the kernels write them.
    float* floats(device::Buffer& buffer, int64_t n) const;

    const PassContext& c_;
    const StepInputs& inputs_;
    Activations& a_;
    Range owned_;  // rows of the batch that this rank owns
    int64_t n_tokens_;
    int64_t qkv_stride_;  // (q + 2 kv) D
    int64_t q_width_;     // q D of this rank
    int64_t kv_width_;
    const LayerWeights* layer_ = nullptr;
};

// One forward pass a family, families/<name>.cpp: from the batch's tokens to Activations::x of the last
// layer.
void forward_qwen3_moe(Pass& pass);
void forward_qwen2_moe(Pass& pass);
void forward_mixtral(Pass& pass);
void forward_olmoe(Pass& pass);

/// The forward pass of the config's family. On a GPU with one rank it only enqueues.
void forward(const PassContext& context, const Batch& batch, const StepInputs& inputs,
             Activations& activations);

/// Some rows of logits, split by vocabulary between the ranks of the group as they lie in memory.
struct LogitsTile {
    int64_t first = 0;             // index in Batch::logit_rows of the tile's first row
    int64_t n_rows = 0;            // that are wanted; padding comes after them
    kernels::SlicedLogits logits;  // [group size, rows, width of the widest share], in the stream's memory
    device::Stream* stream = nullptr;
    device::Buffer* staging = nullptr;  // for what comes to the host, as it lies in the stream's memory

    /// Makes these rows of the tile ready for copy_row(). They are, on the CPU; with a GPU, waits for them.
    void bring_to_host(std::span<const int64_t> rows) const;
    void bring_to_host() const;
    /// Copies row `i` of the tile, [vocab_size].
    void copy_row(int64_t i, float* out) const;
};

/// After forward(): final norm and vocabulary product of Batch::logit_rows, a tile of rows at a time so that
/// memory stays bounded whatever their number. Collective in the group: every rank gets every tile, valid
/// during the call of `use`.
void compute_logits(const PassContext& context, const Batch& batch, const StepInputs& inputs,
                    Activations& activations, const std::function<void(const LogitsTile& tile)>& use);
/// Rows that one tile has room for.
int64_t rows_a_tile(const PassContext& context);

}  // namespace mixserve::model
