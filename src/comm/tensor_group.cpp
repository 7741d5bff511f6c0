#include "comm/tensor_group.h"

#include <array>
#include <vector>

#include "comm/ordered_sum.h"
#include "comm/shared_memory.h"
#include "comm/tensor_group_parts.h"

namespace mixserve::comm {
namespace {

std::vector<int64_t> even_rows(int64_t n_rows, int n_ranks) {
    std::vector<int64_t> rows;
    for (int r = 0; r < n_ranks; ++r)
        rows.push_back(partition(n_rows, n_ranks, r).size());
    return rows;
}

/// A gather is written by its owners into one buffer, a reduction into a segment a rank. Each is used in
/// turns of two, so that one barrier a call suffices: who passes the barrier of call c knows that all have
/// left call c - 1, and so may write the buffer of call c - 1 in call c + 1.
class SharedTensorGroup final : public TensorGroup {
  public:
    SharedTensorGroup(const Communicator& communicator, PhaseTimer& timer)
        : rank_(communicator.rank()),
          size_(communicator.size()),
          timer_(timer),
          barrier_(communicator),
          gathers_(communicator, 0),
          partials_(communicator, 0) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    using TensorGroup::start_gather;
    using TensorGroup::start_reduce;

    float* start_gather(std::span<const int64_t> rows_of_rank, int64_t width) override {
        const RowLayout layout = row_layout(rows_of_rank, rank_, width);
        // All write into the segment of rank 0, so that the rows lie together.
        reserve(gathers_, layout.n_values());
        gather_turn_ ^= 1;
        gathered_ = buffer(gathers_, 0, gather_turn_);
        return gathered_;
    }

    const float* finish_gather() override {
        barrier();
        return gathered_;
    }

    float* start_reduce(std::span<const int64_t> rows_of_rank, int64_t width) override {
        reduction_ = row_layout(rows_of_rank, rank_, width);
        reserve(partials_, reduction_.n_values());
        reduce_turn_ ^= 1;
        return buffer(partials_, rank_, reduce_turn_);
    }

    void finish_reduce(float* out, bool accumulate) override {
        barrier();
        std::vector<const float*> parts;
        for (int r = 0; r < size_; ++r) {
            parts.push_back(buffer(partials_, r, reduce_turn_) + reduction_.owned.begin * reduction_.width);
        }
        ordered_sum(parts, reduction_.owned.size() * reduction_.width, out, accumulate);
    }

    void barrier() override {
        if (size_ == 1) return;
        const PhaseScope idle(timer_, Phase::idle);
        barrier_.wait();
    }

  private:
    static void reserve(SharedSegments& segments, int64_t n_values) {
        segments.reserve(2 * n_values * static_cast<int64_t>(sizeof(float)));
    }
    static float* buffer(const SharedSegments& segments, int rank, int turn) {
        const int64_t half = segments.bytes_per_rank() / 2;
        return reinterpret_cast<float*>(segments.segment(rank) + turn * half);
    }

    int rank_;
    int size_;
    PhaseTimer& timer_;
    SharedBarrier barrier_;
    SharedSegments gathers_;
    SharedSegments partials_;
    float* gathered_ = nullptr;
    RowLayout reduction_;
    int gather_turn_ = 0;
    int reduce_turn_ = 0;
};

}  // namespace

RowLayout row_layout(std::span<const int64_t> rows_of_rank, int rank, int64_t width) {
    RowLayout layout{.n_rows = 0, .owned = {}, .width = width};
    for (size_t r = 0; r < rows_of_rank.size(); ++r) {
        if (static_cast<int>(r) == rank) layout.owned = {layout.n_rows, layout.n_rows + rows_of_rank[r]};
        layout.n_rows += rows_of_rank[r];
    }
    return layout;
}

float* TensorGroup::start_gather(int64_t n_rows, int64_t width) {
    return start_gather(even_rows(n_rows, size()), width);
}
float* TensorGroup::start_reduce(int64_t n_rows, int64_t width) {
    return start_reduce(even_rows(n_rows, size()), width);
}

std::unique_ptr<TensorGroup> make_shared_tensor_group(const Communicator& communicator, PhaseTimer& timer) {
    return std::make_unique<SharedTensorGroup>(communicator, timer);
}

std::unique_ptr<TensorGroup> make_tensor_group(const Communicator& communicator, bool shares_memory,
                                               PhaseTimer& timer) {
    return shares_memory ? make_shared_tensor_group(communicator, timer)
                         : make_mpi_tensor_group(communicator, timer);
}

}  // namespace mixserve::comm
