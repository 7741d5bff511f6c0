#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "app/backend.h"
#include "comm/exchange.h"

namespace mixserve::app {

/// The MoE layer that bench exchange runs.
struct ExchangeShape {
    int64_t num_tokens = 512;  // a node, spread evenly over its ranks
    int64_t hidden_size = 1024;
    int64_t num_experts = 64;
    int64_t num_experts_per_tok = 8;
    int64_t intermediate_size = 512;
    double zipf_exponent = 0;  // expert i is chosen with a weight of (i + 1)^-S; 0: all alike
    /// Instead: [n, num_experts_per_tok] of a real run; ranks take tokens from places apart, round and round.
    std::vector<int32_t> routing_trace;
    DType dtype = DType::bf16;
    comm::WireType wire_type = comm::WireType::f32;
    comm::ExpertSplit expert_split = comm::ExpertSplit::tensor;
    int64_t chunk_bytes = 60000;
    int max_chunks_under_way = 256;
};

/// Medians over the repetitions of the maximum over the ranks.
struct ExchangeResult {
    std::string strategy;
    double exchange_ms = 0;       // without the experts' products
    double layer_ms = 0;          // with them
    int64_t internode_bytes = 0;  // of all ranks, in one layer
    // Those bytes and nothing else, in both directions at once, over what the exchange goes over: the faster
    // of one message to each peer and messages of the fused exchange's size.
    double internode_alone_ms = 0;
    double two_messages_ms = 0;                // half of them, and then, when they have come, the other half
    std::array<double, n_phases> phases_ms{};  // of the layer with products: means over repetitions and ranks
    double difference = 0;  // largest, of the output from the first strategy's, over its largest value
};

/// Every strategy in turn, `repetitions` times over. Collective.
std::vector<ExchangeResult> measure_exchanges(const ExchangeShape& shape,
                                              const std::vector<comm::Strategy>& strategies, int repetitions,
                                              int threads, const BackendChoice& backend,
                                              const comm::Topology& topology);

}  // namespace mixserve::app
