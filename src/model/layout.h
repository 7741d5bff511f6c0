#pragma once

#include <cstdint>

#include "base/partition.h"
#include "comm/exchange.h"
#include "comm/topology.h"
#include "model/config.h"

namespace mixserve::model {

/// The share of the model that this rank holds and computes.
struct RankLayout {
    comm::Strategy strategy = comm::Strategy::tp_ep;
    int tp_rank = 0;  // place among the ranks that split attention, dense MLPs and vocabulary
    int tp_size = 1;
    Range layers;  // all, or those of this pipeline stage
    bool has_embedding = true;
    bool has_head = true;  // final norm and vocabulary product
    Range q_heads;
    Range kv_heads;  // those that the query heads of this rank read; shared with other ranks where there are
                     // fewer of them
    Range vocabulary;
    comm::ExpertPlacement experts;
    int64_t num_attention_heads = 0;  // of the model
    int64_t num_key_value_heads = 0;
};

/// UsageError, naming the degree and the size, when the model cannot be cut so.
RankLayout make_layout(const ModelConfig& config, comm::Strategy strategy, comm::ExpertSplit split,
                       const comm::Topology& topology);

}  // namespace mixserve::model
