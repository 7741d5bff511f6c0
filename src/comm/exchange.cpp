#include "comm/exchange.h"

#include "base/error.h"
#include "comm/agree.h"
#include "comm/exchange_parts.h"

namespace mixserve::comm {

std::string_view name(Strategy strategy) {
    switch (strategy) {
        case Strategy::tp:
            return "tp";
        case Strategy::tp_pp:
            return "tp-pp";
        case Strategy::dp_ep:
            return "dp-ep";
        case Strategy::tp_ep:
            return "tp-ep";
        case Strategy::fused:
            return "fused";
    }
    return "?";
}

ExpertPlacement place_experts(Strategy strategy, ExpertSplit split, const Topology& topology,
                              int64_t num_experts) {
    const int p = topology.ranks_per_node;
    switch (strategy) {
        case Strategy::tp:
            return {{0, num_experts}, topology.n_nodes * p, topology.node_index * p + topology.node_rank};
        case Strategy::tp_pp:
            return {{0, num_experts}, p, topology.node_rank};
        case Strategy::dp_ep:
            return {
                partition(num_experts, topology.n_nodes * p, topology.node_index * p + topology.node_rank), 1,
                0};
        case Strategy::tp_ep:
        case Strategy::fused:
            break;
    }
    const Range node = partition(num_experts, topology.n_nodes, topology.node_index);
    if (split == ExpertSplit::tensor) return {node, p, topology.node_rank};
    const Range own = partition(node.size(), p, topology.node_rank);
    return {{node.begin + own.begin, node.begin + own.end}, 1, 0};
}

std::vector<Range> expert_parts(Strategy strategy, ExpertSplit split, int n_nodes, int ranks_per_node,
                                int64_t num_experts) {
    std::vector<Range> parts;
    const auto cut = [&](Range range, int n_parts) {
        for (int i = 0; i < n_parts; ++i) {
            const Range part = partition(range.size(), n_parts, i);
            parts.push_back({range.begin + part.begin, range.begin + part.end});
        }
    };
    const Range all{0, num_experts};
    switch (strategy) {
        case Strategy::tp:
        case Strategy::tp_pp:
            cut(all, 1);
            break;
        case Strategy::dp_ep:
            cut(all, n_nodes * ranks_per_node);
            break;
        case Strategy::tp_ep:
        case Strategy::fused:
            for (int node = 0; node < n_nodes; ++node)
                cut(partition(num_experts, n_nodes, node), split == ExpertSplit::expert ? ranks_per_node : 1);
            break;
    }
    return parts;
}

void run_experts(const ExchangeSetup& setup, const float* x, int64_t n_rows, const kernels::ExpertRows& rows,
                 const kernels::ExpertWeights& weights, float* out) {
    if (setup.skip_products || n_rows == 0) return;
    const PhaseScope products(setup.timer, Phase::experts);
    if (setup.stream.gpu() != nullptr) return run_staged_experts(setup, x, n_rows, rows, weights, out);
    kernels::expert_mlp(x, n_rows, rows, weights, out, setup.stream);
}

namespace {

std::unique_ptr<Exchange> make_host_exchange(Strategy strategy, const ExchangeSetup& setup) {
    switch (strategy) {
        case Strategy::tp:
        case Strategy::tp_pp:
            return make_gather_exchange(strategy, setup);
        case Strategy::dp_ep:
        case Strategy::tp_ep:
            return make_copy_exchange(strategy, setup);
        case Strategy::fused:
            agree(setup.topology.world, [&] {
                require_usage(setup.topology.node_shares_memory,
                              "the fused exchange needs the ranks of a node to share memory: give a "
                              "--ranks-per-node that does not span hosts, or take --strategy tp-ep");
            });
            return make_fused_exchange(setup);
    }
    fail("unknown strategy {}", static_cast<int>(strategy));
}

}  // namespace

std::unique_ptr<Exchange> make_exchange(Strategy strategy, const ExchangeSetup& setup) {
    if (setup.stream.gpu() == nullptr) return make_host_exchange(strategy, setup);
    if (setup.topology.world.size() == 1) return make_local_exchange(setup);
    if (setup.transport == GpuTransport::nccl) return make_nccl_exchange(strategy, setup);
    return make_staged_exchange(make_host_exchange(strategy, setup), setup);
}

}  // namespace mixserve::comm
