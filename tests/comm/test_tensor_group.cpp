#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "comm/ordered_sum.h"
#include "comm/tensor_group.h"

namespace mixserve::comm {
namespace {

float value(int64_t rank, int64_t row, int64_t column) {
    return std::sin(static_cast<float>(rank * 7919 + row * 131 + column));
}

class TensorGroups : public testing::TestWithParam<bool> {
  protected:
    Communicator world = Communicator::world();
    PhaseTimer timer;
    std::unique_ptr<TensorGroup> group = make_tensor_group(world, GetParam(), timer);
};

TEST_P(TensorGroups, GatherReturnsEveryRow) {
    for (const int64_t n_rows : {0, 1, 2, 5, 64, 3}) {
        for (const int64_t width : {1, 3, 16, 1027}) {
            const Range owned = group->owned(n_rows);
            float* buffer = group->start_gather(n_rows, width);
            for (int64_t i = owned.begin * width; i < owned.end * width; ++i)
                buffer[i] = value(0, i / width, i % width);
            const float* rows = group->finish_gather();
            for (int64_t i = 0; i < n_rows * width; ++i)
                ASSERT_EQ(rows[i], value(0, i / width, i % width)) << i;
        }
    }
}

TEST_P(TensorGroups, ReduceSumsInTheOrderOfRanks) {
    for (const int64_t n_rows : {0, 1, 2, 5, 64, 3}) {
        for (const int64_t width : {1, 3, 16, 1027}) {
            for (const bool accumulate : {false, true}) {
                const Range owned = group->owned(n_rows);
                float* partials = group->start_reduce(n_rows, width);
                for (int64_t i = 0; i < n_rows * width; ++i)
                    partials[i] = value(world.rank(), i / width, i % width);
                std::vector<float> out(static_cast<size_t>(owned.size() * width), 0.25F);
                group->finish_reduce(out.data(), accumulate);
                for (size_t i = 0; i < out.size(); ++i) {
                    const int64_t at = owned.begin * width + static_cast<int64_t>(i);
                    float expected = value(0, at / width, at % width);
                    for (int r = 1; r < world.size(); ++r)
                        expected += value(r, at / width, at % width);
                    if (accumulate) expected = 0.25F + expected;
                    ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(expected))
                        << out[i] << " != " << expected;
                }
            }
        }
    }
}

TEST_P(TensorGroups, RowsCanBeOwnedUnevenly) {
    const int size = world.size();
    std::vector<int64_t> rows_of_rank;
    for (int r = 0; r < size; ++r)
        rows_of_rank.push_back(r % 2 == 0 ? 0 : 2 * r + 1);
    int64_t first = 0;
    for (int r = 0; r < world.rank(); ++r)
        first += rows_of_rank[static_cast<size_t>(r)];
    const int64_t n_own = rows_of_rank[static_cast<size_t>(world.rank())];
    const int64_t width = 5;

    float* buffer = group->start_gather(rows_of_rank, width);
    for (int64_t i = first * width; i < (first + n_own) * width; ++i)
        buffer[i] = value(1, i / width, i % width);
    const float* rows = group->finish_gather();
    int64_t n_rows = 0;
    for (const int64_t n : rows_of_rank)
        n_rows += n;
    for (int64_t i = 0; i < n_rows * width; ++i)
        ASSERT_EQ(rows[i], value(1, i / width, i % width));

    float* partials = group->start_reduce(rows_of_rank, width);
    for (int64_t i = 0; i < n_rows * width; ++i)
        partials[i] = static_cast<float>(i);
    std::vector<float> out(static_cast<size_t>(n_own * width));
    group->finish_reduce(out.data(), false);
    for (size_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out[i],
                  static_cast<float>(first * width + static_cast<int64_t>(i)) * static_cast<float>(size));
    }
}

TEST_P(TensorGroups, APointerHoldsUntilTheNextCallOfTheSamePair) {
    const int64_t n_rows = 2 * world.size();
    const int64_t width = 64;
    for (int turn = 0; turn < 200; ++turn) {
        const Range owned = group->owned(n_rows);
        float* buffer = group->start_gather(n_rows, width);
        for (int64_t i = owned.begin * width; i < owned.end * width; ++i)
            buffer[i] = value(turn, i / width, i % width);
        const float* rows = group->finish_gather();
        float* partials = group->start_reduce(n_rows, width);
        for (int64_t i = 0; i < n_rows * width; ++i)
            partials[i] = rows[i];
        std::vector<float> out(static_cast<size_t>(owned.size() * width));
        group->finish_reduce(out.data(), false);
        for (int64_t i = 0; i < n_rows * width; ++i)
            ASSERT_EQ(rows[i], value(turn, i / width, i % width)) << turn;
        for (size_t i = 0; i < out.size(); ++i) {
            const int64_t at = owned.begin * width + static_cast<int64_t>(i);
            ASSERT_NEAR(out[i], value(turn, at / width, at % width) * static_cast<float>(world.size()), 1e-5)
                << turn;
        }
    }
}

TEST_P(TensorGroups, WaitingIsIdleTime) {
    group->barrier();
    EXPECT_EQ(timer.current(), Phase::schedule);
    const auto seconds = timer.take();
    if (world.size() > 1) {
        EXPECT_GT(seconds[static_cast<size_t>(Phase::idle)], 0.0);
    }
}

std::string name_of(const testing::TestParamInfo<bool>& info) {
    return info.param ? "SharedMemory" : "Mpi";
}
INSTANTIATE_TEST_SUITE_P(Both, TensorGroups, testing::Bool(), name_of);

TEST(OrderedSum, AddsFromTheFirstPart) {
    const int64_t n = 2500;
    std::vector<std::vector<float>> parts(5, std::vector<float>(static_cast<size_t>(n)));
    std::vector<const float*> pointers;
    for (size_t p = 0; p < parts.size(); ++p) {
        for (int64_t i = 0; i < n; ++i)
            parts[p][static_cast<size_t>(i)] = value(static_cast<int64_t>(p), 0, i);
        pointers.push_back(parts[p].data());
        for (const bool accumulate : {false, true}) {
            std::vector<float> out(static_cast<size_t>(n), 3.0F);
            ordered_sum(pointers, n, out.data(), accumulate);
            for (size_t i = 0; i < out.size(); ++i) {
                float expected = parts[0][i];
                for (size_t q = 1; q <= p; ++q)
                    expected += parts[q][i];
                if (accumulate) expected = 3.0F + expected;
                ASSERT_EQ(out[i], expected) << p << ' ' << i;
            }
        }
    }
}

TEST(OrderedSum, KeepsTheSignOfZero) {
    const float zero = -0.0F;
    const float* parts[] = {&zero, &zero};
    float out = 1.0F;
    ordered_sum(parts, 1, &out, false);
    EXPECT_TRUE(std::signbit(out));
}

}  // namespace
}  // namespace mixserve::comm
