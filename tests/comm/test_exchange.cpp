#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "base/error.h"
#include "comm/agree.h"
#include "comm/gpu_ranks.h"
#include "comm/moe_case.h"

namespace mixserve::comm::test {
namespace {

struct Variant {
    std::string name;
    Strategy strategy;
    ExpertSplit split;
    WireType wire_type = WireType::f32;
    int64_t chunk_bytes = 60000;
    int max_chunks_under_way = 256;
    int n_threads = 1;
    // On a GPU: what rows travel over, from what size on messages are counted, and how many rows an expert
    // make blocks apart.
    GpuTransport transport = GpuTransport::host;
    int64_t padded_bytes = 256 << 10;
    int64_t split_rows = 32;
};

// Of the largest value of a row: what f32 sums in another order, bf16 (8 bits) and int8 (7 bits and a sign)
// cost.
double tolerance(const Variant& variant) {
    switch (variant.wire_type) {
        case WireType::f32:
            return 2e-5;
        case WireType::bf16:
            return 2e-2;
        case WireType::int8:
            return 6e-2;
    }
    return 0;
}

#if defined(MIXSERVE_ON_GPU)
constexpr bool on_gpu = true;

Variant over_nccl(std::string name, Strategy strategy, ExpertSplit split, WireType wire_type = WireType::f32,
                  int64_t padded_bytes = 256 << 10, int64_t split_rows = 32) {
    return {std::move(name),    strategy,     split,     wire_type, 60000, 256, 1,
            GpuTransport::nccl, padded_bytes, split_rows};
}
const std::vector<Variant> variants{
    over_nccl("Tp", Strategy::tp, ExpertSplit::tensor),
    over_nccl("TpPp", Strategy::tp_pp, ExpertSplit::tensor),
    over_nccl("DpEp", Strategy::dp_ep, ExpertSplit::expert),
    over_nccl("TpEp", Strategy::tp_ep, ExpertSplit::tensor),
    over_nccl("TpEpExpertCounted", Strategy::tp_ep, ExpertSplit::expert, WireType::f32, 0),
    over_nccl("FusedPadded", Strategy::fused, ExpertSplit::tensor),
    over_nccl("FusedPaddedApart", Strategy::fused, ExpertSplit::expert, WireType::bf16, 256 << 10, 0),
    over_nccl("FusedCounted", Strategy::fused, ExpertSplit::expert, WireType::int8, 0),
    over_nccl("FusedCountedApart", Strategy::fused, ExpertSplit::tensor, WireType::f32, 0, 0),
};
#else
constexpr bool on_gpu = false;
const std::vector<Variant> variants{
    {"Tp", Strategy::tp, ExpertSplit::tensor},
    {"TpPp", Strategy::tp_pp, ExpertSplit::tensor},
    {"DpEp", Strategy::dp_ep, ExpertSplit::expert},
    {"TpEpTensor", Strategy::tp_ep, ExpertSplit::tensor},
    {"TpEpExpert", Strategy::tp_ep, ExpertSplit::expert},
    {"FusedTensor", Strategy::fused, ExpertSplit::tensor, WireType::f32, 60000, 256, 2},
    {"FusedExpert", Strategy::fused, ExpertSplit::expert},
    {"FusedBf16", Strategy::fused, ExpertSplit::tensor, WireType::bf16},
    {"FusedInt8", Strategy::fused, ExpertSplit::expert, WireType::int8},
    // A row a message and two under way: rings go round, and the first sums come back before the last rows
    // leave.
    {"FusedSmallChunks", Strategy::fused, ExpertSplit::tensor, WireType::f32, 1, 2},
};
#endif

device::Stream make_stream(int n_threads) {
    if (!on_gpu) return device::Stream(n_threads);
    gpu_stream();  // takes this rank's GPU
    return {n_threads, device::GpuQueue()};
}

/// One strategy on the world cut into nodes of `ranks_per_node`.
class Layout {
  public:
    Layout(const Variant& variant, const MoeCase& moe, int ranks_per_node)
        : topology_(make_topology(ranks_per_node)),
          stream_(make_stream(variant.n_threads)),
          share_(
              make_weights(moe, place_experts(variant.strategy, variant.split, topology_, moe.num_experts))),
          weights_(place_weights(share_, stream_, memory_)),
          exchange_(make_exchange(variant.strategy, {.topology = topology_,
                                                     .stream = stream_,
                                                     .timer = timer_,
                                                     .hidden_size = moe.hidden_size,
                                                     .num_experts = moe.num_experts,
                                                     .expert_split = variant.split,
                                                     .wire_type = variant.wire_type,
                                                     .chunk_bytes = variant.chunk_bytes,
                                                     .max_chunks_under_way = variant.max_chunks_under_way,
                                                     .transport = variant.transport,
                                                     .padded_bytes = variant.padded_bytes,
                                                     .split_rows_per_expert = variant.split_rows})) {}

    const Topology& topology() const { return topology_; }
    Exchange& exchange() { return *exchange_; }
    Rows run(const MoeCase& moe, const Ownership& ownership) {
        return run_layer(*exchange_, moe, weights_, ownership[static_cast<size_t>(topology_.world.rank())],
                         stream_);
    }

  private:
    Topology topology_;
    device::Stream stream_;
    PhaseTimer timer_;
    WeightShare share_;
    std::vector<device::Buffer> memory_;
    kernels::ExpertWeights weights_;
    std::unique_ptr<Exchange> exchange_;
};

/// Layouts that tests of one strategy share, by shape and ranks a node: so one exchange also sees all cases
/// in a row.
class Layouts {
  public:
    Layout& get(const Variant& variant, const MoeCase& moe, int ranks_per_node) {
        const Key key{variant.name, moe.hidden_size, moe.intermediate_size, moe.num_experts, ranks_per_node};
        if (!made_.empty() && std::get<0>(made_.begin()->first) != variant.name) made_.clear();
        auto& layout = made_[key];
        if (!layout) layout = std::make_unique<Layout>(variant, moe, ranks_per_node);
        return *layout;
    }
    void clear() { made_.clear(); }

  private:
    using Key = std::tuple<std::string, int64_t, int64_t, int64_t, int>;
    std::map<Key, std::unique_ptr<Layout>> made_;
};

Ownership round_robin(int n_ranks, int64_t n_tokens) {
    Ownership ownership(static_cast<size_t>(n_ranks));
    for (int64_t t = 0; t < n_tokens; ++t)
        ownership[static_cast<size_t>(t % n_ranks)].push_back(t);
    return ownership;
}

Ownership all_on_rank(int n_ranks, int rank, int64_t n_tokens) {
    Ownership ownership(static_cast<size_t>(n_ranks));
    for (int64_t t = 0; t < n_tokens; ++t)
        ownership[static_cast<size_t>(rank)].push_back(n_tokens - 1 - t);
    return ownership;
}

/// The numbers of ranks a node that the world can be cut into. The fused exchange's nodes lie within a host
/// on the CPU.
std::vector<int> node_sizes(Strategy strategy) {
    const Communicator world = Communicator::world();
    const int n_ranks =
        strategy == Strategy::fused && !on_gpu ? world.split_shared_memory().size() : world.size();
    std::vector<int> all;
    for (int p = 1; p <= n_ranks; ++p) {
        if (world.size() % p == 0) all.push_back(p);
    }
    return all;
}

class Exchanges : public testing::TestWithParam<Variant> {
  protected:
    void SetUp() override {
        if (on_gpu && !why_no_gpu_a_rank().empty()) GTEST_SKIP() << why_no_gpu_a_rank();
    }
    static void TearDownTestSuite() { layouts.clear(); }
    static inline Layouts layouts;
    int n_ranks = Communicator::world().size();
    std::vector<int> divisors() const { return node_sizes(GetParam().strategy); }

    /// Every token's output is near the definition's, in every cut of the world into nodes. A check that
    /// fails on one rank does not end the test there, since the others go on to the next layer.
    void expect_right(const MoeCase& moe, const Ownership& ownership) {
        for (const int p : divisors()) {
            for (const auto& [token, row] : layouts.get(GetParam(), moe, p).run(moe, ownership)) {
                const double error = relative_error(row, reference_row(moe, token));
                EXPECT_TRUE(error <= tolerance(GetParam()))
                    << "token " << token << ", " << p << " ranks a node: " << error;
            }
        }
    }

    MoeCase uniform_case() const {
        MoeCase moe;
        moe.route = [moe](int64_t token) { return route_uniform(moe, token); };
        return moe;
    }
};

TEST_P(Exchanges, UniformRouting) {
    expect_right(uniform_case(), round_robin(n_ranks, 37));
}

TEST_P(Exchanges, SkewedRouting) {
    MoeCase moe;
    moe.route = [moe](int64_t token) { return route_skewed(moe, token); };
    expect_right(moe, round_robin(n_ranks, 37));
}

TEST_P(Exchanges, EveryTokenToTheSameExperts) {
    for (const int64_t first : {0, 3, 7}) {
        MoeCase moe;
        moe.route = [moe, first](int64_t) { return route_fixed(moe, first); };
        expect_right(moe, round_robin(n_ranks, 19));
    }
}

TEST_P(Exchanges, OneExpertTakesAll) {
    MoeCase moe;
    moe.k = 1;
    moe.route = [](int64_t) { return std::vector<int32_t>{5}; };
    expect_right(moe, round_robin(n_ranks, 23));
}

TEST_P(Exchanges, EveryTokenToEveryExpert) {
    MoeCase moe;
    moe.k = moe.num_experts;
    moe.route = [moe](int64_t token) { return route_fixed(moe, token); };
    expect_right(moe, round_robin(n_ranks, 17));
}

TEST_P(Exchanges, NoTokens) {
    expect_right(uniform_case(), round_robin(n_ranks, 0));
}

TEST_P(Exchanges, OneToken) {
    expect_right(uniform_case(), all_on_rank(n_ranks, 0, 1));
    expect_right(uniform_case(), all_on_rank(n_ranks, n_ranks - 1, 1));
}

TEST_P(Exchanges, OneRankOwnsAll) {
    expect_right(uniform_case(), all_on_rank(n_ranks, n_ranks / 2, 31));
}

TEST_P(Exchanges, OddSizes) {
    MoeCase moe{.hidden_size = 37,
                .intermediate_size = 11,
                .num_experts = 13,
                .k = 3,
                .route = {},
                .gate_weight = {}};
    moe.route = [moe](int64_t token) { return route_uniform(moe, token); };
    expect_right(moe, round_robin(n_ranks, 29));
}

TEST_P(Exchanges, FewerExpertsThanRanks) {
    MoeCase moe{
        .hidden_size = 8, .intermediate_size = 9, .num_experts = 3, .k = 2, .route = {}, .gate_weight = {}};
    moe.route = [moe](int64_t token) { return route_uniform(moe, token); };
    expect_right(moe, round_robin(n_ranks, 11));
}

TEST_P(Exchanges, TheOwnerAndTheBatchLeaveATokensBitsAlone) {
    const MoeCase moe = uniform_case();
    for (const int p : divisors()) {
        Layout& layout = layouts.get(GetParam(), moe, p);
        const int64_t n_tokens = 24;
        std::vector<Ownership> all{round_robin(n_ranks, n_tokens), all_on_rank(n_ranks, 0, n_tokens),
                                   all_on_rank(n_ranks, n_ranks - 1, n_tokens), round_robin(n_ranks, 5),
                                   all_on_rank(n_ranks, n_ranks / 2, 1)};
        std::vector<std::vector<std::byte>> first(static_cast<size_t>(n_tokens));
        for (const Ownership& ownership : all) {
            std::vector<std::byte> mine;
            for (const auto& [token, row] : layout.run(moe, ownership)) {
                const auto* at = reinterpret_cast<const std::byte*>(row.data());
                mine.push_back(static_cast<std::byte>(token));
                mine.insert(mine.end(), at, at + row.size() * sizeof(float));
            }
            const size_t record = 1 + static_cast<size_t>(moe.hidden_size) * sizeof(float);
            for (const auto& part : layout.topology().world.gather(mine, 0)) {
                for (size_t at = 0; at < part.size(); at += record) {
                    const std::vector<std::byte> row(part.begin() + static_cast<int64_t>(at),
                                                     part.begin() + static_cast<int64_t>(at + record));
                    auto& expected = first[static_cast<size_t>(part[at])];
                    if (expected.empty()) expected = row;
                    EXPECT_TRUE(row == expected)
                        << "token " << static_cast<int>(part[at]) << ", " << p << " a node";
                }
            }
        }
    }
}

std::string name_of(const testing::TestParamInfo<Variant>& info) {
    return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(All, Exchanges, testing::ValuesIn(variants), name_of);

#if defined(MIXSERVE_ON_GPU)

TEST(NcclExchange, HasTheBitsOfTheHosts) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    // Rows, products and the order of sums are the same; only the way between the ranks is another.
    MoeCase moe;
    moe.route = [moe](int64_t token) { return route_skewed(moe, token); };
    const int n_ranks = Communicator::world().size();
    for (const WireType wire : {WireType::f32, WireType::bf16, WireType::int8}) {
        for (const int p : node_sizes(Strategy::fused)) {
            Variant variant = over_nccl("", Strategy::fused, ExpertSplit::tensor, wire);
            Layout nccl(variant, moe, p);
            variant.transport = GpuTransport::host;
            Layout host(variant, moe, p);
            const Ownership ownership = round_robin(n_ranks, 21);
            EXPECT_TRUE(nccl.run(moe, ownership) == host.run(moe, ownership))
                << p << " ranks a node, " << name(wire);
        }
    }
}

TEST(NcclExchange, CountsWhatItSends) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    MoeCase moe;
    moe.k = 3;
    moe.route = [moe](int64_t) { return route_fixed(moe, 4); };  // experts 4, 5 and 6: the second half's
    for (const int64_t padded_bytes : {0, 1 << 20}) {
        Layout layout(over_nccl("", Strategy::fused, ExpertSplit::tensor, WireType::f32, padded_bytes), moe,
                      1);
        layout.run(moe, round_robin(layout.topology().world.size(), 8));
        std::vector<int64_t> bytes{layout.exchange().internode_bytes_sent()};
        layout.topology().world.all_reduce(bytes, ReduceOp::sum);
        if (layout.topology().n_nodes == 1) {
            EXPECT_EQ(bytes[0], 0);
        }
        // The 4 tokens of node 0 cross, 24 values and 3 experts with their weights to a multiple of 16, and
        // their sums come back; padded, as many of node 1's do the same.
        if (layout.topology().n_nodes == 2) {
            EXPECT_EQ(bytes[0], (padded_bytes == 0 ? 1 : 2) * 4 * (128 + 96));
        }
    }
}

TEST(NcclExchange, WantsToBeToldOfAStep) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    if (Communicator::world().size() == 1) return;  // it exchanges nothing
    MoeCase moe;
    Layout layout(over_nccl("", Strategy::fused, ExpertSplit::tensor), moe, 1);
    EXPECT_THROW(layout.exchange().forward(nullptr, {0, 2, {}, {}}, {}, nullptr), Error);
}

#else

TEST(FusedExchange, SumsOfOneExpertHaveTheBitsOfThePlainExchange) {
    // With one expert a token, and weights that round nothing, both add the same partial sums in the same
    // order.
    MoeCase moe;
    moe.k = 1;
    moe.route = [moe](int64_t token) { return route_uniform(moe, token); };
    moe.gate_weight = [](int64_t token, int64_t) { return token % 2 == 0 ? 1.0F : 0.5F; };
    const int n_ranks = Communicator::world().size();
    for (const ExpertSplit split : {ExpertSplit::tensor, ExpertSplit::expert}) {
        for (const int p : node_sizes(Strategy::fused)) {
            Layout plain({"", Strategy::tp_ep, split}, moe, p);
            Layout fused({"", Strategy::fused, split}, moe, p);
            const Ownership ownership = round_robin(n_ranks, 21);
            EXPECT_TRUE(fused.run(moe, ownership) == plain.run(moe, ownership)) << p << " ranks a node";
        }
    }
}

TEST(FusedExchange, ANodeThatSpansHostsIsRefused) {
    Topology topology = make_topology(1);
    topology.node_shares_memory = false;
    device::Stream stream(1);
    PhaseTimer timer;
    EXPECT_THROW(
        make_exchange(
            Strategy::fused,
            {.topology = topology, .stream = stream, .timer = timer, .hidden_size = 8, .num_experts = 4}),
        AgreedError);
}

std::vector<int64_t> bytes_of_a_layer(Layout& layout, const MoeCase& moe) {
    layout.run(moe, round_robin(layout.topology().world.size(), 8));
    std::vector<int64_t> bytes{layout.exchange().internode_bytes_sent()};
    layout.topology().world.all_reduce(bytes, ReduceOp::sum);
    return bytes;
}

TEST(ExchangeBytes, FusedSendsATokenOnceToANodeAndBack) {
    MoeCase moe;
    moe.k = 3;
    moe.route = [moe](int64_t) { return route_fixed(moe, 4); };  // experts 4, 5 and 6: the second half's
    for (const auto& [wire_type, row_bytes] :
         {std::pair{WireType::f32, 96}, std::pair{WireType::bf16, 48}, std::pair{WireType::int8, 28}}) {
        Layout layout({"", Strategy::fused, ExpertSplit::tensor, wire_type}, moe, 1);
        const std::vector<int64_t> bytes = bytes_of_a_layer(layout, moe);
        if (layout.topology().n_nodes == 1) {
            EXPECT_EQ(bytes[0], 0);
        }
        // The 4 tokens of node 0 cross: a header, 3 entries of 6 bytes and a count of 2 for each, to a
        // multiple of 64, and the rows there and back. Node 1 sends a header that says it has none.
        if (layout.topology().n_nodes == 2) {
            EXPECT_EQ(bytes[0], 64 + 128 + 2 * 4 * row_bytes + 64);
        }
    }
}

TEST(ExchangeBytes, OneCopyAnExpertCrossesBothWays) {
    MoeCase moe;
    moe.route = [moe](int64_t) { return route_fixed(moe, 4); };  // experts 4 and 5: the second half's
    Layout layout({"", Strategy::tp_ep, ExpertSplit::tensor}, moe, 1);
    const std::vector<int64_t> bytes = bytes_of_a_layer(layout, moe);
    if (layout.topology().n_nodes == 1) {
        EXPECT_EQ(bytes[0], 0);
    }
    // Of 8 tokens the 4 of node 0 cross, each for two experts; a row of 24 values both ways, and an expert's
    // number.
    if (layout.topology().n_nodes == 2) {
        EXPECT_EQ(bytes[0], 4 * 2 * (2 * 24 * 4 + 4));
    }
}

#endif

TEST(RelativeError, RejectsWhatIsNotANumber) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(relative_error({1, 2}, {1, 2}), 0.0);
    EXPECT_NEAR(relative_error({1, 3}, {1, 2}), 0.5, 1e-12);
    EXPECT_FALSE(relative_error({nan, 2}, {1, 2}) <= 1.0);
    EXPECT_FALSE(relative_error({1, 2}, {1, nan}) <= 1.0);
    EXPECT_FALSE(relative_error({1}, {1, 2}) <= 1.0);
}

}  // namespace
}  // namespace mixserve::comm::test
