#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/heartbeat.h"
#include "comm/agree.h"
#include "comm/exchange.h"
#include "comm/mpi.h"
#include "comm/shared_progress.h"
#include "comm/topology.h"

namespace mixserve::comm {
namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
    std::vector<std::byte> bytes(text.size());
    copy_bytes(bytes.data(), text.data(), text.size());
    return bytes;
}

std::string text_of(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string part_of_rank(int rank) {
    return std::string(static_cast<size_t>(rank * 1000), static_cast<char>('a' + rank));
}

TEST(Communicator, BroadcastResizeBringsTheRootsBytes) {
    const Communicator world = Communicator::world();
    const int root = world.size() - 1;
    std::vector<std::byte> bytes = bytes_of(world.rank() == root ? "from the last rank" : "?");
    world.broadcast_resize(bytes, root);
    EXPECT_EQ(text_of(bytes), "from the last rank");
}

TEST(Communicator, GatherKeepsTheOrderOfRanks) {
    const Communicator world = Communicator::world();
    const auto parts = world.gather(bytes_of(part_of_rank(world.rank())), 0);
    if (world.rank() != 0) {
        EXPECT_TRUE(parts.empty());
        return;
    }
    ASSERT_EQ(static_cast<int>(parts.size()), world.size());
    for (int r = 0; r < world.size(); ++r)
        EXPECT_EQ(text_of(parts[static_cast<size_t>(r)]), part_of_rank(r));
}

TEST(Communicator, ScatterGivesEachRankItsPart) {
    const Communicator world = Communicator::world();
    std::vector<std::vector<std::byte>> parts;
    for (int r = 0; r < world.size() && world.rank() == 0; ++r)
        parts.push_back(bytes_of(part_of_rank(r)));
    EXPECT_EQ(text_of(world.scatter(parts, 0)), part_of_rank(world.rank()));
}

TEST(Communicator, ReducesSumMinAndMax) {
    const Communicator world = Communicator::world();
    const int64_t size = world.size();
    std::vector<int64_t> sums{world.rank(), int64_t{1} << 40};
    world.all_reduce(sums, ReduceOp::sum);
    EXPECT_EQ(sums[0], size * (size - 1) / 2);
    EXPECT_EQ(sums[1], size << 40);
    std::vector<double> least{0.5 + world.rank()};
    world.all_reduce(least, ReduceOp::min);
    EXPECT_EQ(least[0], 0.5);
    std::vector<double> most{0.5 + world.rank()};
    world.all_reduce(most, ReduceOp::max);
    EXPECT_EQ(most[0], 0.5 + static_cast<double>(size - 1));
}

TEST(Communicator, GathersTextsOfAnyLength) {
    const Communicator world = Communicator::world();
    const std::vector<std::string> texts = world.all_gather(part_of_rank(world.rank()));
    ASSERT_EQ(static_cast<int>(texts.size()), world.size());
    for (int r = 0; r < world.size(); ++r)
        EXPECT_EQ(texts[static_cast<size_t>(r)], part_of_rank(r));
}

TEST(Communicator, PassesMessagesOfAnySizeAround) {
    const Communicator world = Communicator::world();
    const int next = (world.rank() + 1) % world.size();
    const int previous = (world.rank() + world.size() - 1) % world.size();
    if (world.rank() % 2 == 0 && world.size() > 1) world.send(bytes_of(part_of_rank(world.rank())), next, 7);
    if (world.size() > 1) {
        EXPECT_EQ(text_of(world.receive(previous, 7)), part_of_rank(previous));
    }
    if (world.rank() % 2 == 1) world.send(bytes_of(part_of_rank(world.rank())), next, 7);
}

TEST(Communicator, AFailedCallIsAnErrorWithItsName) {
    const Communicator world = Communicator::world();
    try {
        world.send({}, world.size(), 7);
        FAIL() << "a message to a rank that is not there was sent";
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("MPI_Send"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("rank"), std::string::npos) << error.what();
    }
}

TEST(Communicator, ACountBeyondIntIsAnError) {
    EXPECT_EQ(mpi_int(2147483647, "MPI_Send"), 2147483647);
    EXPECT_THROW(mpi_int(int64_t{2147483648}, "MPI_Send"), Error);
    EXPECT_THROW(mpi_int(-1, "MPI_Send"), Error);
}

TEST(Runtime, KnowsALaunchOfSeveralRanks) {
    EXPECT_TRUE(Runtime::initialized());
    EXPECT_EQ(Runtime::launched_with_several_ranks(), Communicator::world().size() > 1);
}

TEST(Topology, CutsTheWorldIntoNodesOfConsecutiveRanks) {
    const int size = Communicator::world().size();
    for (int p = 1; p <= size; ++p) {
        if (size % p != 0) {
            EXPECT_THROW(make_topology(p), AgreedError);
            continue;
        }
        const Topology topology = make_topology(p);
        EXPECT_EQ(topology.ranks_per_node, p);
        EXPECT_EQ(topology.n_nodes, size / p);
        EXPECT_EQ(topology.world.rank(), topology.node_index * p + topology.node_rank);
        EXPECT_EQ(topology.node.rank(), topology.node_rank);
        EXPECT_EQ(topology.node.size(), p);
        EXPECT_EQ(topology.lane.rank(), topology.node_index);
        EXPECT_EQ(topology.lane.size(), size / p);
        EXPECT_EQ(static_cast<int>(topology.hosts.size()), size);
        EXPECT_TRUE(topology.node_shares_memory);
        const std::vector<int64_t> lane = topology.lane.all_gather(topology.world.rank());
        for (size_t n = 0; n < lane.size(); ++n)
            EXPECT_EQ(lane[n], static_cast<int64_t>(n) * p + topology.node_rank);
    }
    EXPECT_THROW(make_topology(0), AgreedError);
}

TEST(Topology, ARealNodeIsWhereMemoryIsShared) {
    const Topology topology = make_topology(std::nullopt);
    EXPECT_EQ(topology.n_nodes, 1);
    EXPECT_EQ(topology.ranks_per_node, topology.world.size());
}

/// What each rank of a layout holds.
std::vector<ExpertPlacement> placements(Strategy strategy, ExpertSplit split, int n_nodes, int p,
                                        int64_t num_experts) {
    std::vector<ExpertPlacement> all;
    Topology topology = make_topology(1);
    topology.n_nodes = n_nodes;
    topology.ranks_per_node = p;
    for (int a = 0; a < n_nodes; ++a) {
        for (int q = 0; q < p; ++q) {
            topology.node_index = a;
            topology.node_rank = q;
            all.push_back(place_experts(strategy, split, topology, num_experts));
        }
    }
    return all;
}

TEST(PlaceExperts, EveryCutOfEveryExpertIsHeldAsOftenAsTheStrategySays) {
    for (const Strategy strategy :
         {Strategy::tp, Strategy::tp_pp, Strategy::dp_ep, Strategy::tp_ep, Strategy::fused}) {
        for (const ExpertSplit split : {ExpertSplit::tensor, ExpertSplit::expert}) {
            const int n_nodes = 3;
            const int p = 2;
            const int64_t num_experts = 10;
            std::vector<double> held(static_cast<size_t>(num_experts), 0.0);
            for (const ExpertPlacement& placement : placements(strategy, split, n_nodes, p, num_experts)) {
                EXPECT_LT(placement.intermediate_part, placement.intermediate_parts);
                for (int64_t e = placement.experts.begin; e < placement.experts.end; ++e) {
                    held[static_cast<size_t>(e)] += 1.0 / static_cast<double>(placement.intermediate_parts);
                }
            }
            const double copies = strategy == Strategy::tp_pp ? n_nodes : 1;
            for (const double h : held)
                EXPECT_NEAR(h, copies, 1e-12) << name(strategy);
        }
    }
}

TEST(SharedProgress, TheHeartsOfThoseThatWaitBeatWithTheOthers) {
    const Communicator world = Communicator::world();
    for (const bool works : {false, true}) {
        SharedProgress progress(world);
        const bool is_last = world.rank() == world.size() - 1;
        for (const double end = now_s() + 3; is_last && now_s() < end;) {
            if (works) heartbeat.beat();
        }
        const uint64_t before = heartbeat.n_beats();
        progress.wait_for_all();
        const uint64_t n_beats = heartbeat.n_beats() - before;
        if (is_last) continue;
        if (works) {
            EXPECT_GT(n_beats, 6U);
        } else {
            EXPECT_LE(n_beats, 6U);
        }
    }
}

TEST(PlaceExperts, ANodesShareIsTheSameForEitherSplit) {
    const auto tensor = placements(Strategy::fused, ExpertSplit::tensor, 2, 2, 7);
    EXPECT_EQ(tensor[0].experts.size(), 4);
    EXPECT_EQ(tensor[3].experts.size(), 3);
    EXPECT_EQ(tensor[3].intermediate_part, 1);
    const auto whole = placements(Strategy::fused, ExpertSplit::expert, 2, 2, 7);
    EXPECT_EQ(whole[1].experts.begin, 2);
    EXPECT_EQ(whole[2].experts.begin, 4);
    EXPECT_EQ(whole[3].experts.size(), 1);
    EXPECT_EQ(whole[3].intermediate_parts, 1);
}

}  // namespace
}  // namespace mixserve::comm
