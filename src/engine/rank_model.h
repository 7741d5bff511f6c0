#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/phase.h"
#include "comm/exchange.h"
#include "comm/pipeline_link.h"
#include "comm/tensor_group.h"
#include "comm/topology.h"
#include "device/stream.h"
#include "engine/step_graphs.h"
#include "model/batch.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/layout.h"
#include "model/pass.h"
#include "model/rope.h"
#include "model/weights.h"

namespace mixserve::engine {

/// How a model is spread over the ranks and what each gives it.
struct ParallelOptions {
    comm::Strategy strategy = comm::Strategy::tp_ep;
    comm::ExpertSplit expert_split = comm::ExpertSplit::tensor;
    comm::WireType exchange_dtype = comm::WireType::f32;  // what `fused` sends between nodes
    device::Backend backend = device::Backend::cpu;
    int gpu = 0;           // with Backend::cuda: in the count of what this rank sees
    int ranks_on_gpu = 1;  // that share it
    comm::GpuTransport gpu_transport = comm::GpuTransport::host;
    int n_threads = 1;
    int64_t max_model_len = 0;  // positions of a sequence
    int64_t max_num_seqs = 64;  // bounds what the KV cache can need
    int64_t kv_block_size = 16;
    DType kv_cache_dtype = DType::f32;
    std::optional<int64_t> kv_cache_bytes;  // a rank; otherwise a share of the memory that is free
    bool cuda_graphs = true;  // with Backend::cuda and one rank: decode steps are recorded and replayed
};

/// What a rank with these options computes with.
device::Stream make_stream(const ParallelOptions& options);

/// This rank's part of the model with all that a step needs. Collective to make; every rank of the world
/// makes one.
class RankModel {
  public:
    /// `topology`, `source` are borrowed; the source only until this returns.
    RankModel(const model::ModelConfig& config, const comm::Topology& topology,
              const ParallelOptions& options, const model::WeightSource& source,
              const model::LoadProgress& progress = {});

    const model::ModelConfig& config() const { return config_; }
    const model::RankLayout& layout() const { return layout_; }
    const ParallelOptions& options() const { return options_; }
    const comm::Topology& topology() const { return topology_; }
    int64_t weight_bytes() const { return weights_.n_bytes; }
    /// The same on all ranks.
    int64_t n_kv_blocks() const { return kv_cache_.n_blocks; }
    PhaseTimer& timer() { return timer_; }
    comm::TensorGroup& group() { return *group_; }
    comm::Exchange& exchange() { return *exchange_; }
    device::Stream& stream() { return stream_; }
    void observe_router(model::RouterObserver observer) { context_->observe_router = std::move(observer); }
    /// [num_hidden_layers, num_experts]: how often the router has chosen an expert for this rank's tokens
    /// since this was last called. With a GPU, waits for it.
    std::vector<int64_t> take_expert_counts();

    /// Steps between a batch's step() and the call that brings its logits: the stages of the pipeline,
    /// else 1.
    int pipeline_depth() const { return link_ ? link_->n_stages() : 1; }

    /// One step, collective over the world: this rank's batch through its layers, then the logits of its
    /// logit_rows, handed to `use` on every rank of the group. In a pipeline all ranks get the same batch,
    /// each stage works on the batch that was given stage() steps ago, and the logits (on the ranks that have
    /// the head) are those of the batch given pipeline_depth() - 1 steps ago.
    /// With a GPU, what `use` gets may still be on its way to where it lies; work that is enqueued on
    /// stream() comes after it.
    void step(model::Batch batch, const std::function<void(const model::LogitsTile&)>& use);
    /// Steps so far that were replayed from a recorded one.
    int64_t n_replayed_steps() const { return step_graphs_ ? step_graphs_->n_replays() : 0; }

  private:
    bool can_replay(const model::Batch& batch) const;
    void replay_step(model::Batch batch, const std::function<void(const model::LogitsTile&)>& use);
    void receive_rows(size_t n_values);
    void send_rows(size_t n_values);

    void warm_up();

    model::ModelConfig config_;
    const comm::Topology& topology_;
    ParallelOptions options_;
    model::RankLayout layout_;
    PhaseTimer timer_;
    device::Stream stream_;
    std::unique_ptr<comm::TensorGroup> group_;
    std::unique_ptr<comm::Exchange> exchange_;
    model::Weights weights_;
    model::PlacedRopeTable rope_;
    model::KvCache kv_cache_;
    device::Buffer expert_counts_;  // [num_hidden_layers, num_experts] of int64
    std::unique_ptr<model::PassContext> context_;
    model::Activations activations_;
    std::unique_ptr<comm::PipelineLink> link_;  // with tp-pp over several nodes
    std::optional<StepGraphs> step_graphs_;     // with a GPU, where a step needs nobody else
    std::vector<float> staged_rows_;            // between the link and a GPU
    std::deque<model::Batch> on_their_way_;     // batches that this stage has yet to work on, the newest last
};

}  // namespace mixserve::engine
