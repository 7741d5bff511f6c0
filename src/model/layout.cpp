#include "model/layout.h"

#include "base/error.h"

namespace mixserve::model {

RankLayout make_layout(const ModelConfig& config, comm::Strategy strategy, comm::ExpertSplit split,
                       const comm::Topology& topology) {
    using comm::Strategy;
    RankLayout layout;
    layout.strategy = strategy;
    const bool over_world = strategy == Strategy::tp;
    layout.tp_rank = over_world ? topology.world.rank() : topology.node_rank;
    layout.tp_size = over_world ? topology.world.size() : topology.ranks_per_node;
    require_usage(
        config.num_attention_heads % layout.tp_size == 0,
        "tensor parallelism of {} does not divide the model's {} attention heads (num_attention_heads); "
        "use a number of ranks{} that divides it",
        layout.tp_size, config.num_attention_heads, over_world ? "" : " per node");
    require_usage(
        config.num_key_value_heads % layout.tp_size == 0 || layout.tp_size % config.num_key_value_heads == 0,
        "tensor parallelism of {} neither divides nor is a multiple of the model's {} key-value heads "
        "(num_key_value_heads)",
        layout.tp_size, config.num_key_value_heads);
    const bool hybrid = strategy == Strategy::tp_ep || strategy == Strategy::fused;
    require_usage(hybrid || split == comm::ExpertSplit::tensor,
                  "--expert-split ep goes with the strategies tp-ep and fused");
    const bool over_all_ranks = strategy == Strategy::dp_ep || split == comm::ExpertSplit::expert;
    const int64_t n_expert_ranks = over_all_ranks ? topology.world.size() : hybrid ? topology.n_nodes : 1;
    require_usage(n_expert_ranks <= config.num_experts,
                  "{}: {} groups of ranks share {} experts; use fewer nodes or ranks", comm::name(strategy),
                  n_expert_ranks, config.num_experts);

    layout.num_attention_heads = config.num_attention_heads;
    layout.num_key_value_heads = config.num_key_value_heads;
    layout.q_heads = partition(config.num_attention_heads, layout.tp_size, layout.tp_rank);
    const int64_t q_per_kv = config.num_attention_heads / config.num_key_value_heads;
    layout.kv_heads = {layout.q_heads.begin / q_per_kv, (layout.q_heads.end - 1) / q_per_kv + 1};
    layout.vocabulary = partition(config.vocab_size, layout.tp_size, layout.tp_rank);
    // The first node has the last layers: logits, sampling and the queue of requests are in one place.
    const int stage = topology.n_nodes - 1 - topology.node_index;
    layout.layers = strategy == Strategy::tp_pp ? partition(config.num_hidden_layers, topology.n_nodes, stage)
                                                : Range{0, config.num_hidden_layers};
    layout.has_embedding = layout.layers.begin == 0;
    layout.has_head = layout.layers.end == config.num_hidden_layers;
    require_usage(strategy != Strategy::tp_pp || topology.n_nodes <= config.num_hidden_layers,
                  "tp-pp: {} pipeline stages for {} layers; use fewer nodes", topology.n_nodes,
                  config.num_hidden_layers);
    layout.experts = comm::place_experts(strategy, split, topology, config.num_experts);
    return layout;
}

}  // namespace mixserve::model
