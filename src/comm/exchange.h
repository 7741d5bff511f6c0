#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/partition.h"
#include "base/phase.h"
#include "comm/gpu_communicator.h"
#include "comm/tensor_group.h"
#include "comm/topology.h"
#include "device/stream.h"
#include "kernels/experts.h"
#include "kernels/wire.h"

namespace mixserve::comm {

/// The parallel strategies (DESIGN.md section 3): who serves a request together, and how experts are split.
enum class Strategy : uint8_t { tp, tp_pp, dp_ep, tp_ep, fused };
std::string_view name(Strategy strategy);

/// How the experts of a node are split between its ranks: along the intermediate dimension, or whole experts.
enum class ExpertSplit : uint8_t { tensor, expert };

/// How values travel between nodes in the fused exchange. Sums are f32 always. Values that stay in their node
/// are rounded alike, so that a token's result does not depend on the node that owns it; with one node
/// nothing is rounded.
using kernels::name;
using kernels::parse_wire_type;
using kernels::WireType;

/// The share of every layer's experts that this rank holds.
struct ExpertPlacement {
    Range experts;                   // of num_experts
    int64_t intermediate_parts = 1;  // the intermediate dimension is cut in so many parts ...
    int64_t intermediate_part = 0;   // ... of which this rank holds this one
};
ExpertPlacement place_experts(Strategy strategy, ExpertSplit split, const Topology& topology,
                              int64_t num_experts);
/// The experts that are held together, in order: those of a node where its ranks split each, else of a rank;
/// all of them where every rank or node has its share of each.
std::vector<Range> expert_parts(Strategy strategy, ExpertSplit split, int n_nodes, int ranks_per_node,
                                int64_t num_experts);

/// What the router chose for the owned tokens of this rank.
///   experts, weights [n_tokens, k]; the experts of a token differ. k is the same on all ranks, also without
///   tokens.
struct Routing {
    int64_t n_tokens = 0;
    int64_t k = 0;
    std::span<const int32_t> experts;
    std::span<const float> weights;
};

/// Runs the MoE layer of all ranks: brings tokens to the ranks that hold their experts, runs those, and
/// brings the gate-weighted sums back. Every rank of the world calls forward() for the same layers in the
/// same order, with or without tokens. A token's result depends on the token and the layout only (sums run by
/// rising node, then rank, then expert), not on which node or rank owns it or on what else is in the step.
class Exchange {
  public:
    virtual ~Exchange() = default;
    /// Before the layers of a step: how many tokens this rank has in each of them. Collective over the ranks
    /// that exchange.
    virtual void begin_step(int64_t /*n_tokens*/) {}
    /// x [routing.n_tokens, hidden_size]: the owned tokens; y, same shape: their MoE output (overwritten).
    /// These, the routing and the weights are in the stream's memory.
    virtual void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                         float* y) = 0;
    /// Bytes that this rank has sent to other nodes so far.
    virtual int64_t internode_bytes_sent() const = 0;
};

/// Everything an exchange is made from. All borrowed; all outlive it.
struct ExchangeSetup {
    const Topology& topology;
    device::Stream& stream;
    PhaseTimer& timer;
    int64_t hidden_size;
    int64_t num_experts;
    ExpertSplit expert_split = ExpertSplit::tensor;
    WireType wire_type = WireType::f32;  // of `fused`; the others send f32
    /// Of `fused`: about how many bytes of f32 rows travel in one message, and how many such chunks of a
    /// block at most are under way to a node.
    int64_t chunk_bytes = 60000;
    int max_chunks_under_way = 256;
    /// With a GPU: what the rows travel over.
    GpuTransport transport = GpuTransport::host;
    /// Of NCCL: messages of all of a rank's rows up to this size are sent without asking how many go there.
    int64_t padded_bytes = 256 << 10;
    /// Of `fused` over NCCL: from so many rows an expert on, each node's are multiplied apart.
    int64_t split_rows_per_expert = 32;
    /// Leaves the experts' products out, to measure the exchange alone; the result is meaningless then.
    bool skip_products = false;
};

/// UsageError for `fused` when the ranks of a node do not share memory.
std::unique_ptr<Exchange> make_exchange(Strategy strategy, const ExchangeSetup& setup);

}  // namespace mixserve::comm
