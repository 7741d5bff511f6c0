#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <numeric>

#include "comm/gpu_communicator.h"
#include "comm/gpu_ranks.h"
#include "comm/tensor_group.h"

namespace mixserve::comm::test {
namespace {

float value(int64_t rank, int64_t i) {
    return std::sin(static_cast<float>(rank * 7919 + i));
}

std::vector<float> values_of(int64_t rank, int64_t n) {
    std::vector<float> values;
    for (int64_t i = 0; i < n; ++i)
        values.push_back(value(rank, i));
    return values;
}

TEST(GpuCommunicators, AllGather) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    const Communicator world = Communicator::world();
    GpuCommunicator gpus(world, "world");
    EXPECT_EQ(gpus.rank(), world.rank());
    EXPECT_EQ(gpus.size(), world.size());
    for (const int64_t n : {1, 5, 4096}) {
        OnGpu<float> part(values_of(world.rank(), n));
        OnGpu<float> all = unwritten(static_cast<size_t>(n * world.size()));
        const size_t n_bytes = static_cast<size_t>(n) * sizeof(float);
        gpus.all_gather(part.data(), n_bytes, all.data(), *gpu_stream().gpu());
        const std::vector<float> got = all.read();
        for (int64_t i = 0; i < n * world.size(); ++i)
            ASSERT_EQ(got[static_cast<size_t>(i)], value(i / n, i % n)) << i;
        // In place.
        OnGpu<float> own(values_of(9, n * world.size()));
        gpus.all_gather(own.data() + world.rank() * n, n_bytes, own.data(), *gpu_stream().gpu());
        const std::vector<float> same = own.read();
        for (int64_t i = 0; i < n * world.size(); ++i)
            ASSERT_EQ(same[static_cast<size_t>(i)], value(9, i)) << i;
    }
}

TEST(GpuCommunicators, Reductions) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    const Communicator world = Communicator::world();
    GpuCommunicator gpus(world, "world");
    const int64_t n = 33;
    std::vector<float> values;
    for (int64_t i = 0; i < n * world.size(); ++i)
        values.push_back(static_cast<float>(i % 17 + world.rank()));
    const auto expected = [&](int64_t i) {
        const int64_t ranks = world.size();
        const int64_t pairs = ranks * (ranks - 1) / 2;
        return static_cast<float>(i % 17 * ranks + pairs);
    };
    OnGpu<float> whole(values);
    OnGpu<float> part = unwritten(static_cast<size_t>(n));
    gpus.reduce_scatter_sum(whole.data(), n, part.data(), *gpu_stream().gpu());
    gpus.all_reduce_sum(whole.data(), n * world.size(), *gpu_stream().gpu());
    const std::vector<float> own = part.read();
    const std::vector<float> all = whole.read();
    for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(own[static_cast<size_t>(i)], expected(world.rank() * n + i));
    for (int64_t i = 0; i < n * world.size(); ++i)
        ASSERT_EQ(all[static_cast<size_t>(i)], expected(i));
}

TEST(GpuCommunicators, MessagesOfManySizes) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    const Communicator world = Communicator::world();
    GpuCommunicator gpus(world, "world");
    // Rank a sends rank b so many values; some nothing.
    const auto n_values = [](int a, int b) { return int64_t{(a * 3 + b * 5) % 4 * 700}; };
    for (int turn = 0; turn < 3; ++turn) {
        OnGpu<float> sent(values_of(world.rank() + turn, 4000));
        std::vector<OnGpu<float>> received;
        std::vector<GpuCommunicator::Outgoing> out;
        std::vector<GpuCommunicator::Incoming> in;
        for (int r = 0; r < world.size(); ++r) {
            received.push_back(unwritten(4000));
            if (r == world.rank()) continue;
            out.push_back(
                {r, sent.data() + r, static_cast<size_t>(n_values(world.rank(), r)) * sizeof(float)});
            in.push_back(
                {r, received.back().data(), static_cast<size_t>(n_values(r, world.rank())) * sizeof(float)});
        }
        gpus.exchange(out, in, *gpu_stream().gpu());
        for (int r = 0; r < world.size(); ++r) {
            if (r == world.rank()) continue;
            const std::vector<float> got = received[static_cast<size_t>(r)].read();
            const int64_t n = n_values(r, world.rank());
            for (int64_t i = 0; i < n; ++i)
                ASSERT_EQ(got[static_cast<size_t>(i)], value(r + turn, world.rank() + i));
            EXPECT_TRUE(std::isnan(got[static_cast<size_t>(n)]));
        }
    }
}

TEST(GpuCommunicators, QueuesGoOnWhileOneWaits) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    // Two communicators on two queues, waited for in different orders: a GPU runs both, and neither rank may
    // hold the other up.
    const Communicator world = Communicator::world();
    GpuCommunicator first(world, "first");
    GpuCommunicator second(world, "second");
    device::GpuQueue other;
    const int64_t n = 1000;
    const size_t n_bytes = static_cast<size_t>(n) * sizeof(float);
    OnGpu<float> part(values_of(world.rank(), n));
    gpu_stream().gpu()->synchronize();
    OnGpu<float> a = unwritten(static_cast<size_t>(n * world.size()));
    OnGpu<float> b = unwritten(static_cast<size_t>(n * world.size()));
    gpu_stream().gpu()->synchronize();
    first.all_gather(part.data(), n_bytes, a.data(), *gpu_stream().gpu());
    second.all_gather(part.data(), n_bytes, b.data(), other);
    device::GpuQueue& mine = world.rank() % 2 == 0 ? *gpu_stream().gpu() : other;
    mine.synchronize();
    other.synchronize();
    EXPECT_EQ(a.read(), b.read());
    // The host may wait for the others in MPI with work of this rank's still in its queue.
    first.all_gather(part.data(), n_bytes, a.data(), *gpu_stream().gpu());
    if (world.rank() == 0) gpu_stream().gpu()->synchronize();
    world.barrier();
    EXPECT_EQ(a.read(), b.read());
}

/// Rows in device memory, over NCCL's border: what TensorGroup promises, without a wait of the host.
class GpuTensorGroups : public testing::Test {
  protected:
    Communicator world = Communicator::world();
    PhaseTimer timer;
    std::unique_ptr<TensorGroup> group() {
        return make_tensor_group(world, false, timer, gpu_stream(), GpuTransport::nccl);
    }
    static void put(float* device, const std::vector<float>& values) {
        gpu_stream().upload(device, values.data(), values.size() * sizeof(float));
    }
    static std::vector<float> take(const float* device, int64_t n) {
        std::vector<float> values(static_cast<size_t>(n));
        gpu_stream().gpu()->copy_out(values.data(), device, values.size() * sizeof(float));
        gpu_stream().gpu()->synchronize();
        return values;
    }
};

TEST_F(GpuTensorGroups, GatherReturnsEveryRow) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    const auto tensor_group = group();
    for (const int64_t n_rows : {0, 1, 2, 5, 64, 3}) {
        for (const int64_t width : {1, 3, 1027}) {
            const Range owned = tensor_group->owned(n_rows);
            const std::vector<float> all = values_of(0, n_rows * width);
            float* buffer = tensor_group->start_gather(n_rows, width);
            put(buffer + owned.begin * width,
                {all.begin() + owned.begin * width, all.begin() + owned.end * width});
            EXPECT_EQ(take(tensor_group->finish_gather(), n_rows * width), all);
        }
    }
}

TEST_F(GpuTensorGroups, ReduceSumsInTheOrderOfRanks) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    const auto tensor_group = group();
    for (const int64_t n_rows : {0, 1, 2, 5, 64, 3}) {
        for (const int64_t width : {1, 3, 1027}) {
            for (const bool accumulate : {false, true}) {
                const Range owned = tensor_group->owned(n_rows);
                put(tensor_group->start_reduce(n_rows, width), values_of(world.rank(), n_rows * width));
                const int64_t n = owned.size() * width;
                OnGpu<float> out(std::vector<float>(static_cast<size_t>(n), 0.25F));
                tensor_group->finish_reduce(out.data(), accumulate);
                const std::vector<float> sums = out.read();
                for (int64_t i = 0; i < n; ++i) {
                    float expected = value(0, owned.begin * width + i);
                    for (int r = 1; r < world.size(); ++r)
                        expected += value(r, owned.begin * width + i);
                    if (accumulate) expected = 0.25F + expected;
                    ASSERT_EQ(std::bit_cast<uint32_t>(sums[static_cast<size_t>(i)]),
                              std::bit_cast<uint32_t>(expected))
                        << sums[static_cast<size_t>(i)] << " != " << expected;
                }
            }
        }
    }
}

TEST_F(GpuTensorGroups, RowsCanBeOwnedUnevenly) {
    MIXSERVE_NEEDS_GPU_A_RANK();
    const auto tensor_group = group();
    std::vector<int64_t> rows_of_rank;
    for (int r = 0; r < world.size(); ++r)
        rows_of_rank.push_back(r % 2 == 0 ? 0 : 2 * r + 1);
    const int64_t first =
        std::accumulate(rows_of_rank.begin(), rows_of_rank.begin() + world.rank(), int64_t{0});
    const int64_t n_rows = std::accumulate(rows_of_rank.begin(), rows_of_rank.end(), int64_t{0});
    const int64_t n_own = rows_of_rank[static_cast<size_t>(world.rank())];
    const int64_t width = 5;
    const std::vector<float> all = values_of(1, n_rows * width);
    float* buffer = tensor_group->start_gather(rows_of_rank, width);
    put(buffer + first * width, {all.begin() + first * width, all.begin() + (first + n_own) * width});
    EXPECT_EQ(take(tensor_group->finish_gather(), n_rows * width), all);

    std::vector<float> counted(static_cast<size_t>(n_rows * width));
    std::iota(counted.begin(), counted.end(), 0.0F);
    put(tensor_group->start_reduce(rows_of_rank, width), counted);
    OnGpu<float> out = unwritten(static_cast<size_t>(n_own * width));
    tensor_group->finish_reduce(out.data(), false);
    const std::vector<float> sums = out.read();
    for (size_t i = 0; i < sums.size(); ++i)
        ASSERT_EQ(sums[i],
                  counted[static_cast<size_t>(first * width) + i] * static_cast<float>(world.size()));
}

}  // namespace
}  // namespace mixserve::comm::test
