#include "comm/topology.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"
#include "comm/agree.h"

namespace mixserve::comm {
namespace {

std::string host_name() {
    std::array<char, 256> name{};
    require(gethostname(name.data(), name.size() - 1) == 0, "gethostname: {}", errno_text(errno));
    return name.data();
}

/// The ranks that share memory come one after the other, hosts in the order of their first rank.
Communicator order_by_host(const Communicator& launched, Communicator& host) {
    int64_t first_rank = launched.rank();
    host.all_reduce(std::span(&first_rank, 1), ReduceOp::min);
    // Ranks of equal key stay in their old order.
    return launched.split(0, static_cast<int>(first_rank));
}

int real_ranks_per_node(const Communicator& world, const Communicator& host) {
    std::array<int64_t, 2> sizes{host.size(), -host.size()};
    world.all_reduce(sizes, ReduceOp::max);
    const int64_t largest = sizes[0];
    const int64_t smallest = -sizes[1];
    agree(world, [&] {
        require_usage(
            largest == smallest,
            "the nodes have different numbers of ranks ({} to {}): start the same number on each, or give "
            "--ranks-per-node",
            smallest, largest);
    });
    return static_cast<int>(largest);
}

}  // namespace

Topology make_topology(std::optional<int> ranks_per_node) {
    const Communicator launched = Communicator::world();
    Communicator host = launched.split_shared_memory();
    Communicator world = order_by_host(launched, host);
    const int p = ranks_per_node ? *ranks_per_node : real_ranks_per_node(world, host);
    agree(world, [&] {
        require_usage(
            p >= 1 && world.size() % p == 0,
            "nodes of {} (--ranks-per-node, --tensor-parallel-size) do not divide the {} ranks: start a "
            "multiple of {}",
            p, world.size(), p);
    });

    const int node_index = world.rank() / p;
    const int node_rank = world.rank() % p;
    Communicator node = world.split(node_index, node_rank);
    Communicator lane = world.split(node_rank, node_index);

    // The lowest world rank of this host names the host: ranks of a node share memory if it is the same for
    // all.
    int64_t host_id = world.rank();
    host.all_reduce(std::span(&host_id, 1), ReduceOp::min);
    const std::vector<int64_t> ids = node.all_gather(host_id);
    int64_t shares = std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return id == host_id; }) ? 1 : 0;
    world.all_reduce(std::span(&shares, 1), ReduceOp::min);

    std::vector<std::string> hosts = world.all_gather(host_name());
    const int n_nodes = world.size() / p;
    return Topology{.world = std::move(world),
                    .node = std::move(node),
                    .lane = std::move(lane),
                    .n_nodes = n_nodes,
                    .ranks_per_node = p,
                    .node_index = node_index,
                    .node_rank = node_rank,
                    .hosts = std::move(hosts),
                    .node_shares_memory = shares == 1};
}

}  // namespace mixserve::comm
