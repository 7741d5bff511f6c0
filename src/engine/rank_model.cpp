#include "engine/rank_model.h"

#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "base/system_memory.h"
#include "comm/agree.h"
#include "comm/shared_progress.h"

namespace mixserve::engine {
namespace {

void clear(device::Buffer& buffer, device::Stream& stream) {
    if (stream.gpu() != nullptr) return stream.gpu()->clear(buffer.data(), buffer.size());
    std::fill_n(buffer.data(), buffer.size(), std::byte{0});
}

/// Bytes of what is free that a rank may take for its cache; the rest is for activations (and on the host,
/// the page cache).
int64_t share_of_free_memory(const comm::Topology& topology, const ParallelOptions& options) {
    constexpr double share = 0.8;
    if (options.backend == device::Backend::cuda) {
        return static_cast<int64_t>(share * static_cast<double>(device::gpu_memory().free_bytes) /
                                    options.ranks_on_gpu);
    }
    const std::string& host = topology.hosts[static_cast<size_t>(topology.world.rank())];
    const auto n_here = std::count(topology.hosts.begin(), topology.hosts.end(), host);
    return static_cast<int64_t>(share * static_cast<double>(available_memory_bytes()) /
                                static_cast<double>(n_here));
}

/// Blocks of the KV cache that every rank can give: from the stated bytes, or from a share of the memory that
/// is free after the weights are loaded. Never more than `max_num_seqs` full sequences can fill.
int64_t agree_kv_blocks(const model::ModelConfig& config, const model::RankLayout& layout,
                        const comm::Topology& topology, const ParallelOptions& options) {
    const int64_t block_bytes =
        model::kv_block_bytes(config, layout, options.kv_block_size, options.kv_cache_dtype);
    const int64_t bytes =
        options.kv_cache_bytes ? *options.kv_cache_bytes : share_of_free_memory(topology, options);
    const int64_t blocks_a_sequence =
        (options.max_model_len + options.kv_block_size - 1) / options.kv_block_size;
    int64_t n_blocks[] = {std::min(bytes / block_bytes, options.max_num_seqs * blocks_a_sequence)};
    topology.world.all_reduce(std::span<int64_t>(n_blocks), comm::ReduceOp::min);
    comm::agree(topology.world, [&] {
        require_usage(
            n_blocks[0] > 0,
            "the KV cache has no room: a block of {} tokens takes {} bytes a rank, and there are {}; raise "
            "--kv-cache-memory or use more ranks",
            options.kv_block_size, block_bytes, bytes);
    });
    return n_blocks[0];
}

/// A signal ends the load of this rank at once, and then that of all together; an error goes its own way, not
/// to wait for the others' loads.
model::Weights load_weights(const model::ModelConfig& config, const model::RankLayout& layout,
                            const comm::Topology& topology, const model::WeightSource& source,
                            device::Stream& stream, const model::LoadProgress& progress) {
    comm::SharedProgress all_ranks(topology.world);
    model::Weights weights;
    try {
        weights = model::load_weights(config, layout, source, stream, progress);
    } catch (const StopRequest&) {
        // agree() says it.
    }
    all_ranks.wait_for_all();
    comm::agree(topology.world, [] {});
    return weights;
}

}  // namespace

device::Stream make_stream(const ParallelOptions& options) {
    if (options.backend == device::Backend::cpu) return device::Stream(options.n_threads);
    device::use_gpu(options.gpu);
    return {options.n_threads, device::GpuQueue()};
}

RankModel::RankModel(const model::ModelConfig& config, const comm::Topology& topology,
                     const ParallelOptions& options, const model::WeightSource& source,
                     const model::LoadProgress& progress)
    : config_(config),
      topology_(topology),
      options_(options),
      layout_(model::make_layout(config, options.strategy, options.expert_split, topology)),
      stream_(make_stream(options)),
      group_(comm::make_tensor_group(
          options.strategy == comm::Strategy::tp ? topology.world : topology.node,
          topology.node_shares_memory && (options.strategy != comm::Strategy::tp || topology.n_nodes == 1),
          timer_, stream_, options.gpu_transport)),
      exchange_(comm::make_exchange(options.strategy, {.topology = topology,
                                                       .stream = stream_,
                                                       .timer = timer_,
                                                       .hidden_size = config.hidden_size,
                                                       .num_experts = config.num_experts,
                                                       .expert_split = options.expert_split,
                                                       .wire_type = options.exchange_dtype,
                                                       .transport = options.gpu_transport})),
      weights_(load_weights(config_, layout_, topology, source, stream_, progress)),
      rope_(model::make_rope_table(config_, options.max_model_len), stream_) {
    kv_cache_ = model::make_kv_cache(config_, layout_, agree_kv_blocks(config_, layout_, topology, options),
                                     options.kv_block_size, options.kv_cache_dtype, stream_.memory());
    if (stream_.gpu() != nullptr) {
        // Benchmarks attend to positions that nobody wrote.
        for (device::Buffer& layer : kv_cache_.storage)
            clear(layer, stream_);
    }
    if (options.strategy == comm::Strategy::tp_pp && topology.n_nodes > 1) {
        link_ = std::make_unique<comm::PipelineLink>(topology);
    }
    const auto n_counts = static_cast<size_t>(config_.num_hidden_layers * config_.num_experts);
    expert_counts_ = device::Buffer(n_counts * sizeof(int64_t), stream_.memory());
    clear(expert_counts_, stream_);
    context_ = std::make_unique<model::PassContext>(
        model::PassContext{config_, layout_, weights_, rope_, kv_cache_, *group_, *exchange_, stream_, timer_,
                           model::kv_heads_of(config_, layout_), expert_counts_.as<int64_t>().data()});
    if (stream_.gpu() != nullptr && options.cuda_graphs && topology.world.size() == 1)
        step_graphs_.emplace(stream_);
    warm_up();
}

/// MPI connects, and the exchange allocates, at the first use: a layer without tokens takes that out of the
/// first prompt's time. (NCCL's peers connect with the first rows all the same.)
void RankModel::warm_up() {
    topology_.lane.barrier();
    const auto layer = std::find_if(weights_.layers.begin(), weights_.layers.end(),
                                    [](const model::LayerWeights& l) { return l.sparse; });
    if (layer == weights_.layers.end()) return;
    exchange_->begin_step(0);
    exchange_->forward(nullptr, {0, config_.num_experts_per_tok, {}, {}}, layer->experts.weights, nullptr);
}

std::vector<int64_t> RankModel::take_expert_counts() {
    std::vector<int64_t> counts(expert_counts_.as<int64_t>().size());
    if (stream_.gpu() != nullptr) {
        stream_.gpu()->copy_out(counts.data(), expert_counts_.data(), expert_counts_.size());
        stream_.gpu()->synchronize();
    } else {
        std::copy_n(expert_counts_.as<int64_t>().data(), counts.size(), counts.data());
    }
    clear(expert_counts_, stream_);
    return counts;
}

void RankModel::step(model::Batch batch, const std::function<void(const model::LogitsTile&)>& use) {
    on_their_way_.push_back(std::move(batch));
    const int stage = link_ ? link_->stage() : 0;
    if (static_cast<int>(on_their_way_.size()) <= stage) return;
    const model::Batch current = std::move(on_their_way_.front());
    on_their_way_.pop_front();
    if (link_ && current.tokens.empty()) return;

    const auto n_values = static_cast<size_t>(group_->owned(current.n_tokens()).size() * config_.hidden_size);
    if (stage > 0) {
        const PhaseScope phase(timer_, Phase::idle);
        activations_.x.reserve(n_values * sizeof(float), stream_.memory());
        receive_rows(n_values);
    }
    if (can_replay(current)) return replay_step(current, use);
    const model::StepInputs inputs = model::place_inputs(*context_, current, activations_);
    model::forward(*context_, current, inputs, activations_);
    if (layout_.has_head) {
        model::compute_logits(*context_, current, inputs, activations_, use);
    } else {
        const PhaseScope phase(timer_, Phase::dispatch);
        send_rows(n_values);
    }
}

/// A row of each of its sequences, all of whose logits are wanted, and no wait for the host inside.
bool RankModel::can_replay(const model::Batch& batch) const {
    const auto n_rows = static_cast<size_t>(batch.n_tokens());
    return step_graphs_ && n_rows > 0 && batch.sequences.size() == n_rows &&
           batch.logit_rows.size() == n_rows &&
           kernels::cuda::padded_size(batch.n_tokens()) <= model::rows_a_tile(*context_) &&
           !context_->observe_router;
}

void RankModel::replay_step(model::Batch batch, const std::function<void(const model::LogitsTile&)>& use) {
    const PhaseScope enqueue(timer_, Phase::attention);
    const auto n_padded = static_cast<size_t>(kernels::cuda::padded_size(batch.n_tokens()));
    batch.is_padded = true;
    batch.n_padding = static_cast<int64_t>(n_padded) - batch.n_tokens();
    const int64_t n_used = batch.n_tokens();
    batch.tokens.resize(n_padded, 0);
    batch.positions.resize(n_padded, 0);
    batch.logit_rows.resize(n_padded, 0);
    const model::StepInputs inputs = model::place_inputs(*context_, batch, activations_);
    model::LogitsTile tile = step_graphs_->run(inputs.attention.plan.sizes(), [&] {
        model::LogitsTile logits;
        model::forward(*context_, batch, inputs, activations_);
        model::compute_logits(*context_, batch, inputs, activations_,
                              [&](const model::LogitsTile& all) { logits = all; });
        return logits;
    });
    tile.n_rows = n_used;
    const PhaseScope phase(timer_, Phase::logits);
    use(tile);
}

void RankModel::receive_rows(size_t n_values) {
    if (stream_.gpu() == nullptr) return link_->receive(activations_.x.as<float>().first(n_values));
    staged_rows_.resize(n_values);
    link_->receive(staged_rows_);
    stream_.upload(activations_.x.data(), staged_rows_.data(), n_values * sizeof(float));
}

void RankModel::send_rows(size_t n_values) {
    if (stream_.gpu() == nullptr) return link_->send(activations_.x.as<float>().first(n_values));
    staged_rows_.resize(n_values);
    stream_.gpu()->copy_out(staged_rows_.data(), activations_.x.data(), n_values * sizeof(float));
    stream_.gpu()->synchronize();
    link_->send(staged_rows_);
}

}  // namespace mixserve::engine
