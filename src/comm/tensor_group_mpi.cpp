#include <vector>

#include "base/error.h"
#include "comm/mpi.h"
#include "comm/ordered_sum.h"
#include "comm/tensor_group_parts.h"

namespace mixserve::comm {
namespace {

/// Between nodes: MPI_Allgatherv, and a reduce-scatter made of MPI_Alltoallv and an ordered sum, since MPI's
/// own may add in any order.
class MpiTensorGroup final : public TensorGroup {
  public:
    MpiTensorGroup(const Communicator& communicator, PhaseTimer& timer)
        : communicator_(communicator),
          rank_(communicator.rank()),
          size_(communicator.size()),
          timer_(timer) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    using TensorGroup::start_gather;
    using TensorGroup::start_reduce;

    float* start_gather(std::span<const int64_t> rows_of_rank, int64_t width) override {
        const RowLayout layout = row_layout(rows_of_rank, rank_, width);
        set_counts(rows_of_rank, gather_counts_, gather_offsets_);
        gather_width_ = width;
        gathered_.resize(static_cast<size_t>(layout.n_values()));
        return gathered_.data();
    }

    const float* finish_gather() override {
        if (size_ == 1) return gathered_.data();
        const PhaseScope idle(timer_, Phase::idle);
        const RowType& row = row_type(gather_row_, gather_width_);
        call_mpi("MPI_Allgatherv", MPI_Allgatherv, MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, gathered_.data(),
                 gather_counts_.data(), gather_offsets_.data(), row.get(), raw(communicator_));
        return gathered_.data();
    }

    float* start_reduce(std::span<const int64_t> rows_of_rank, int64_t width) override {
        reduction_ = row_layout(rows_of_rank, rank_, width);
        set_counts(rows_of_rank, reduce_counts_, reduce_offsets_);
        partials_.resize(static_cast<size_t>(reduction_.n_values()));
        return partials_.data();
    }

    void finish_reduce(float* out, bool accumulate) override {
        const int64_t n_owned = reduction_.owned.size();
        const int64_t n_values = n_owned * reduction_.width;
        received_.resize(static_cast<size_t>(n_values * size_));
        exchange_partials(n_owned);
        std::vector<const float*> parts;
        for (int r = 0; r < size_; ++r) {
            parts.push_back(r == rank_ ? partials_.data() + reduction_.owned.begin * reduction_.width
                                       : received_.data() + r * n_values);
        }
        ordered_sum(parts, n_values, out, accumulate);
    }

    void barrier() override {
        const PhaseScope idle(timer_, Phase::idle);
        communicator_.barrier();
    }

  private:
    void exchange_partials(int64_t n_owned) {
        if (size_ == 1) return;
        const PhaseScope idle(timer_, Phase::idle);
        std::vector<int> send_counts = reduce_counts_;
        send_counts[static_cast<size_t>(rank_)] = 0;
        std::vector<int> receive_counts(static_cast<size_t>(size_), mpi_int(n_owned, "MPI_Alltoallv"));
        receive_counts[static_cast<size_t>(rank_)] = 0;
        std::vector<int> receive_offsets;
        for (int r = 0; r < size_; ++r)
            receive_offsets.push_back(mpi_int(r * n_owned, "MPI_Alltoallv"));
        const RowType& row = row_type(reduce_row_, reduction_.width);
        call_mpi("MPI_Alltoallv", MPI_Alltoallv, partials_.data(), send_counts.data(), reduce_offsets_.data(),
                 row.get(), received_.data(), receive_counts.data(), receive_offsets.data(), row.get(),
                 raw(communicator_));
    }

    static void set_counts(std::span<const int64_t> rows_of_rank, std::vector<int>& counts,
                           std::vector<int>& offsets) {
        counts.clear();
        offsets.clear();
        int64_t total = 0;
        for (const int64_t n_rows : rows_of_rank) {
            counts.push_back(mpi_int(n_rows, "rows of a rank"));
            offsets.push_back(mpi_int(total, "rows of a group"));
            total += n_rows;
        }
    }

    static const RowType& row_type(std::unique_ptr<RowType>& row, int64_t width) {
        const auto n_bytes = width * static_cast<int64_t>(sizeof(float));
        if (!row || row->n_bytes() != n_bytes) row = std::make_unique<RowType>(n_bytes);
        return *row;
    }

    const Communicator& communicator_;
    int rank_;
    int size_;
    PhaseTimer& timer_;
    int64_t gather_width_ = 0;
    RowLayout reduction_;
    std::vector<int> gather_counts_, gather_offsets_, reduce_counts_, reduce_offsets_;
    std::vector<float> gathered_, partials_, received_;
    std::unique_ptr<RowType> gather_row_, reduce_row_;
};

}  // namespace

std::unique_ptr<TensorGroup> make_mpi_tensor_group(const Communicator& communicator, PhaseTimer& timer) {
    return std::make_unique<MpiTensorGroup>(communicator, timer);
}

}  // namespace mixserve::comm
