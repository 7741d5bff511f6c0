#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/partition.h"
#include "kernels/gpu_data.h"
#include "kernels/kernel_data.h"
#include "kernels/packing.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

// The exchange's packing has the bits of its CPU twin: it moves, rounds and adds in a fixed order.

/// Rows routed to k of n_experts, dealt to n_nodes, with a plan on the CPU and one on the GPU.
struct Case {
    int64_t n_rows, k, n_experts;
    int n_nodes;
    std::vector<int32_t> experts, node_of_expert;
    std::vector<int32_t> rows, places, counts;
    NodePlan cpu_plan, gpu_plan;
    std::vector<OnGpu<int32_t>> memory;  // experts, nodes, rows, places, counts

    Case(int64_t rows_, int64_t k_, int64_t experts_, int nodes_, uint32_t seed)
        : n_rows(rows_), k(k_), n_experts(experts_), n_nodes(nodes_) {
        const std::vector<float> random = random_floats(static_cast<size_t>(n_rows), seed);
        for (int64_t row = 0; row < n_rows; ++row) {
            const auto first = static_cast<int64_t>(std::fabs(random[static_cast<size_t>(row)]) * 1000);
            for (int64_t j = 0; j < k; ++j)
                experts.push_back(static_cast<int32_t>((first + j * 3) % n_experts));
        }
        for (int node = 0; node < n_nodes; ++node)
            node_of_expert.resize(static_cast<size_t>(partition(n_experts, n_nodes, node).end), node);
        rows.resize(static_cast<size_t>(n_rows * n_nodes), -7);
        places = rows;
        counts.resize(static_cast<size_t>(2 * n_nodes));
        cpu_plan = {n_rows, n_nodes, rows.data(), places.data(), counts.data()};
        for (const auto& values : {experts, node_of_expert, rows, places, counts})
            memory.emplace_back(values);
        gpu_plan = {n_rows, n_nodes, memory[2].data(), memory[3].data(), memory[4].data()};
        device::Stream cpu(1);
        plan_nodes(experts.data(), k, node_of_expert.data(), cpu_plan, cpu);
        plan_nodes(memory[0].data(), k, memory[1].data(), gpu_plan, gpu_stream());
    }
};

std::vector<Case> cases() {
    std::vector<Case> all;
    all.emplace_back(37, 2, 16, 3, 1);
    all.emplace_back(1, 8, 64, 4, 2);
    all.emplace_back(1500, 1, 8, 2, 3);  // more rows than a block has threads
    all.emplace_back(20, 3, 3, 1, 4);
    all.emplace_back(9, 2, 5, 8, 5);  // nodes without experts
    all.emplace_back(0, 2, 4, 2, 6);
    return all;
}

constexpr WireType types[] = {WireType::f32, WireType::bf16, WireType::int8};

TEST(GpuPacking, Plans) {
    MIXSERVE_NEEDS_GPU();
    for (const Case& c : cases()) {
        EXPECT_EQ(c.memory[4].read(), c.counts);
        EXPECT_EQ(c.memory[3].read(), c.places);
        EXPECT_EQ(c.memory[2].read(), c.rows);
    }
}

TEST(GpuPacking, RecordsThereAndBack) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    for (const Case& c : cases()) {
        for (const WireType type : types) {
            const int64_t hidden = 37;
            const RecordFormat format{type, hidden, c.k};
            std::vector<float> x = random_floats(static_cast<size_t>(c.n_rows * hidden), 7);
            if (c.n_rows > 3) {
                x[static_cast<size_t>(hidden)] = std::numeric_limits<float>::infinity();
                std::fill_n(x.begin() + 2 * hidden, hidden, 0.0F);
            }
            const std::vector<float> weights = random_floats(static_cast<size_t>(c.n_rows * c.k), 8);
            const OnGpu<float> gpu_x(x), gpu_weights(weights);
            const int64_t n_records = c.n_rows + 2;  // some are filled up
            const int64_t message_bytes = n_records * format.record_bytes();
            std::vector<std::byte> records(static_cast<size_t>(c.n_nodes * message_bytes));
            OnGpu<std::byte> gpu_records(std::vector<std::byte>(records.size(), std::byte{0}));
            pack_records({x.data(), 1, c.experts.data(), weights.data()}, c.cpu_plan, format, 0, c.n_nodes,
                         n_records, records.data(), message_bytes, cpu);
            pack_records({gpu_x.data(), 1, c.memory[0].data(), gpu_weights.data()}, c.gpu_plan, format, 0,
                         c.n_nodes, n_records, gpu_records.data(), message_bytes, gpu_stream());
            EXPECT_EQ(gpu_records.read(), records) << name(type);

            const auto n = static_cast<size_t>(c.n_nodes * n_records);
            std::vector<float> back(n * static_cast<size_t>(hidden)),
                back_weights(n * static_cast<size_t>(c.k));
            std::vector<int32_t> back_experts(back_weights.size());
            OnGpu<float> gpu_back = unwritten(back.size()), gpu_back_weights = unwritten(back_weights.size());
            OnGpu<int32_t> gpu_back_experts(back_experts);
            unpack_records(records.data(), static_cast<int64_t>(n), format, back.data(), back_experts.data(),
                           back_weights.data(), cpu);
            unpack_records(gpu_records.data(), static_cast<int64_t>(n), format, gpu_back.data(),
                           gpu_back_experts.data(), gpu_back_weights.data(), gpu_stream());
            const std::vector<float> gpu_rows = gpu_back.read();
            for (size_t i = 0; i < back.size(); ++i)
                ASSERT_TRUE(gpu_rows[i] == back[i] || (std::isnan(gpu_rows[i]) && std::isnan(back[i]))) << i;
            EXPECT_EQ(gpu_back_experts.read(), back_experts);
            EXPECT_EQ(gpu_back_weights.read(), back_weights);
        }
    }
}

TEST(GpuPacking, SumsOverRanks) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    for (const int n_ranks : {1, 2, 5}) {
        for (int own_rank = 0; own_rank < n_ranks; ++own_rank) {
            const int64_t n_rows = 3, hidden = 301, n = n_rows * hidden;
            const std::vector<float> others = random_floats(static_cast<size_t>(n * n_ranks), 9);
            const std::vector<float> own = random_floats(static_cast<size_t>(n), 10);
            const OnGpu<float> gpu_others(others), gpu_own(own);
            const RankParts parts{own.data(), others.data(), n, own_rank, n_ranks};
            const RankParts gpu_parts{gpu_own.data(), gpu_others.data(), n, own_rank, n_ranks};
            for (const bool accumulate : {false, true}) {
                std::vector<float> out(static_cast<size_t>(n), 0.25F);
                OnGpu<float> gpu_out(out);
                sum_ranks(parts, n, out.data(), accumulate, cpu);
                sum_ranks(gpu_parts, n, gpu_out.data(), accumulate, gpu_stream());
                EXPECT_EQ(gpu_out.read(), out);
            }
            for (const WireType type : types) {
                std::vector<std::byte> wire(static_cast<size_t>(n_rows * wire_row_bytes(type, hidden)));
                OnGpu<std::byte> gpu_wire(wire);
                sum_ranks_to_wire(parts, n_rows, hidden, type, wire.data(), cpu);
                sum_ranks_to_wire(gpu_parts, n_rows, hidden, type, gpu_wire.data(), gpu_stream());
                EXPECT_EQ(gpu_wire.read(), wire) << name(type);
            }
        }
    }
}

TEST(GpuPacking, ReturnedSums) {
    MIXSERVE_NEEDS_GPU();
    device::Stream cpu(1);
    const int64_t hidden = 45;
    for (const Case& c : cases()) {
        for (const WireType type : types) {
            for (const int64_t rows_per_node : {int64_t{-1}, c.n_rows}) {
                const int64_t n_returned = c.n_rows * c.n_nodes;
                const std::vector<float> rows = random_floats(static_cast<size_t>(n_returned * hidden), 11);
                std::vector<std::byte> wire(static_cast<size_t>(n_returned * wire_row_bytes(type, hidden)));
                encode_rows(type, rows.data(), n_returned, hidden, wire.data());
                const OnGpu<std::byte> gpu_wire(wire);
                const ReturnedSums sums{wire.data(), type, hidden, rows_per_node};
                const ReturnedSums gpu_sums{gpu_wire.data(), type, hidden, rows_per_node};
                std::vector<float> y(static_cast<size_t>(c.n_rows * hidden));
                OnGpu<float> gpu_y = unwritten(y.size());
                add_node_sums(sums, c.cpu_plan, y.data(), cpu);
                add_node_sums(gpu_sums, c.gpu_plan, gpu_y.data(), gpu_stream());
                EXPECT_EQ(gpu_y.read(), y);
                if (c.k != 1 || c.n_rows % 5 != 0) continue;
                // Five (token, expert) pairs to a token.
                std::vector<float> weights = random_floats(static_cast<size_t>(c.n_rows), 12);
                const OnGpu<float> gpu_weights(weights);
                std::vector<float> sum(static_cast<size_t>(c.n_rows / 5 * hidden));
                OnGpu<float> gpu_sum = unwritten(sum.size());
                std::vector<int32_t> distinct = c.experts;
                for (size_t i = 0; i < distinct.size(); ++i)
                    distinct[i] = static_cast<int32_t>((i * 3) % 5 + i / 5 % 4);
                Case pairs(c.n_rows, 1, c.n_experts, c.n_nodes, 3);
                pairs.experts = distinct;
                pairs.memory[0] = OnGpu<int32_t>(distinct);
                plan_nodes(pairs.experts.data(), 1, pairs.node_of_expert.data(), pairs.cpu_plan, cpu);
                plan_nodes(pairs.memory[0].data(), 1, pairs.memory[1].data(), pairs.gpu_plan, gpu_stream());
                add_weighted_sums(sums, pairs.cpu_plan, distinct.data(), weights.data(), 5,
                                  pairs.node_of_expert.data(), sum.data(), cpu);
                add_weighted_sums(gpu_sums, pairs.gpu_plan, pairs.memory[0].data(), gpu_weights.data(), 5,
                                  pairs.memory[1].data(), gpu_sum.data(), gpu_stream());
                EXPECT_EQ(gpu_sum.read(), sum);
            }
        }
    }
}

}  // namespace
}  // namespace mixserve::kernels
