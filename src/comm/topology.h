#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace mixserve::comm {

/// World = n_nodes x ranks_per_node. World rank = node_index * ranks_per_node + node_rank, whatever order the
/// launcher gave the ranks (the world is reordered so that this holds).
struct Topology {
    Communicator world;
    Communicator node;  // the ranks of this node
    Communicator lane;  // the ranks with the same node_rank; rank in it = node_index
    int n_nodes = 1;
    int ranks_per_node = 1;
    int node_index = 0;
    int node_rank = 0;
    std::vector<std::string> hosts;  // [world size]
    bool node_shares_memory = true;
};

/// `ranks_per_node` makes virtual nodes (of consecutive ranks); without it nodes are where memory is shared.
/// All ranks throw an AgreedError (bad usage) when the world is not a multiple of it, or when real nodes have
/// different numbers of ranks.
Topology make_topology(std::optional<int> ranks_per_node);

}  // namespace mixserve::comm
