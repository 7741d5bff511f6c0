#include <algorithm>
#include <vector>

#include "comm/gpu_communicator.h"
#include "comm/tensor_group_parts.h"
#include "kernels/packing.h"

namespace mixserve::comm {
namespace {

/// Rows in device memory, which go from GPU to GPU in the stream's queue: the host waits for nothing. Partial
/// sums go as they are to the rank that owns their rows, which adds them by rising rank: NCCL's own
/// reductions keep no such order, and move as many bytes.
class NcclTensorGroup final : public TensorGroup {
  public:
    NcclTensorGroup(const Communicator& communicator, PhaseTimer& timer, device::Stream& stream)
        : ranks_(communicator),
          timer_(timer),
          stream_(stream),
          rank_(communicator.rank()),
          size_(communicator.size()),
          gpus_(communicator, "tensor group") {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    using TensorGroup::start_gather;
    using TensorGroup::start_reduce;

    float* start_gather(std::span<const int64_t> rows_of_rank, int64_t width) override {
        gather_rows_.assign(rows_of_rank.begin(), rows_of_rank.end());
        gather_ = row_layout(rows_of_rank, rank_, width);
        return reserve(gathered_, gather_.n_values());
    }

    const float* finish_gather() override {
        float* rows = gathered_.as<float>().data();
        if (gather_.n_values() == 0) return rows;
        gather_rows(rows, bytes(gather_.width), gather_rows_, gpus_, *stream_.gpu());
        return rows;
    }

    float* start_reduce(std::span<const int64_t> rows_of_rank, int64_t width) override {
        reduce_rows_.assign(rows_of_rank.begin(), rows_of_rank.end());
        reduction_ = row_layout(rows_of_rank, rank_, width);
        return reserve(partials_, reduction_.n_values());
    }

    void finish_reduce(float* out, bool accumulate) override {
        const float* partials = partials_.as<float>().data();
        const int64_t n = reduction_.owned.size() * reduction_.width;
        float* received = reserve(received_, n * size_);
        scatter_partials(partials, bytes(reduction_.width), reduce_rows_, received, gpus_, *stream_.gpu());
        kernels::sum_ranks({.own = partials + reduction_.owned.begin * reduction_.width,
                            .others = received,
                            .stride = n,
                            .own_rank = rank_,
                            .n_ranks = size_},
                           n, out, accumulate, stream_);
    }

    void barrier() override {
        const PhaseScope idle(timer_, Phase::idle);
        ranks_.barrier();
    }

  private:
    static size_t bytes(int64_t n_values) { return static_cast<size_t>(n_values) * sizeof(float); }
    static float* reserve(device::Buffer& buffer, int64_t n_values) {
        buffer.reserve(bytes(n_values), device::Memory::device);
        return buffer.as<float>().data();
    }

    const Communicator& ranks_;
    PhaseTimer& timer_;
    device::Stream& stream_;
    int rank_;
    int size_;
    GpuCommunicator gpus_;
    std::vector<int64_t> gather_rows_, reduce_rows_;
    RowLayout gather_, reduction_;
    device::Buffer gathered_, partials_, received_;
};

}  // namespace

void gather_rows(void* rows, size_t row_bytes, std::span<const int64_t> rows_of_rank, GpuCommunicator& gpus,
                 device::GpuQueue& queue) {
    const int rank = gpus.rank();
    const auto own = static_cast<size_t>(rows_of_rank[static_cast<size_t>(rank)]) * row_bytes;
    auto* at = static_cast<std::byte*>(rows);
    if (std::all_of(rows_of_rank.begin(), rows_of_rank.end(),
                    [&](int64_t n) { return n == rows_of_rank[0]; })) {
        if (own > 0 && gpus.size() > 1)
            gpus.all_gather(at + static_cast<size_t>(rank) * own, own, rows, queue);
        return;
    }
    std::vector<GpuCommunicator::Outgoing> sends;
    std::vector<GpuCommunicator::Incoming> receives;
    std::byte* own_rows = at;
    for (int r = 0; r < gpus.size(); ++r) {
        const size_t n_bytes = static_cast<size_t>(rows_of_rank[static_cast<size_t>(r)]) * row_bytes;
        if (r == rank) {
            own_rows = at;
        } else {
            receives.push_back({r, at, n_bytes});
        }
        at += n_bytes;
    }
    for (int r = 0; r < gpus.size(); ++r) {
        if (r != rank) sends.push_back({r, own_rows, own});
    }
    gpus.exchange(sends, receives, queue);
}

void scatter_partials(const float* partials, size_t row_bytes, std::span<const int64_t> rows_of_rank,
                      float* received, GpuCommunicator& gpus, device::GpuQueue& queue) {
    const int rank = gpus.rank();
    const auto own = static_cast<size_t>(rows_of_rank[static_cast<size_t>(rank)]) * row_bytes;
    std::vector<GpuCommunicator::Outgoing> sends;
    std::vector<GpuCommunicator::Incoming> receives;
    const auto* at = reinterpret_cast<const std::byte*>(partials);
    size_t total = 0;
    for (int r = 0; r < gpus.size(); ++r) {
        const size_t n_bytes = static_cast<size_t>(rows_of_rank[static_cast<size_t>(r)]) * row_bytes;
        if (r != rank) {
            sends.push_back({r, at, n_bytes});
            receives.push_back(
                {r, reinterpret_cast<std::byte*>(received) + static_cast<size_t>(r) * own, own});
        }
        at += n_bytes;
        total += n_bytes;
    }
    if (total > 0 && gpus.size() > 1) gpus.exchange(sends, receives, queue);
}

std::unique_ptr<TensorGroup> make_nccl_tensor_group(const Communicator& communicator, PhaseTimer& timer,
                                                    device::Stream& stream) {
    return std::make_unique<NcclTensorGroup>(communicator, timer, stream);
}

}  // namespace mixserve::comm
