#include <cstring>
#include <numeric>
#include <vector>

#include "base/bytes.h"
#include "comm/assignment.h"
#include "comm/exchange_parts.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

/// Counts and offsets of an MPI_Alltoallv, in rows.
struct RowCounts {
    std::vector<int> counts;
    std::vector<int> offsets;
    int total = 0;

    void set(const std::vector<int>& new_counts) {
        counts = new_counts;
        offsets.assign(counts.size(), 0);
        std::partial_sum(counts.begin(), counts.end() - 1, offsets.begin() + 1);
        total = offsets.back() + counts.back();
    }
};

/// The plain form. `across`: the ranks that hold different experts; `inside`: those that hold parts of the
/// same (for dp-ep, this rank alone). A token's copies return unweighted and are summed here by rising
/// expert.
class CopyExchange final : public Exchange {
  public:
    CopyExchange(Strategy strategy, const ExchangeSetup& setup)
        : setup_(setup),
          local_(place_experts(strategy, setup.expert_split, setup.topology, setup.num_experts).experts),
          across_(strategy == Strategy::dp_ep ? setup.topology.world : setup.topology.lane),
          inside_(setup.topology.world.split(
              strategy == Strategy::dp_ep ? setup.topology.world.rank() : setup.topology.node_index,
              setup.topology.node_rank)),
          tokens_(make_tensor_group(inside_, shares_memory(strategy), setup.timer)),
          experts_(make_tensor_group(inside_, shares_memory(strategy), setup.timer)),
          ranks_per_destination_node_(strategy == Strategy::dp_ep ? setup.topology.ranks_per_node : 1),
          row_(setup.hidden_size * static_cast<int64_t>(sizeof(float))) {}

    void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                 float* y) override {
        const PhaseScope dispatch(setup_.timer, Phase::dispatch);
        sort_copies(routing);
        send_copies(x, routing);
        const std::vector<int64_t> rows_of_rank = inside_.all_gather(received_.total);
        const int64_t n_rows = gather_inside(rows_of_rank);
        float* partials = tokens_->start_reduce(rows_of_rank, setup_.hidden_size);
        run_experts(setup_, gathered_tokens_, n_rows, assignment_.view(), weights, partials);
        const PhaseScope combine(setup_.timer, Phase::combine);
        received_rows_.resize(static_cast<size_t>(received_.total * setup_.hidden_size));
        tokens_->finish_reduce(received_rows_.data(), false);
        return_copies();
        sum_copies(routing, y);
    }

    int64_t internode_bytes_sent() const override { return internode_bytes_; }

  private:
    bool shares_memory(Strategy strategy) const {
        return strategy == Strategy::dp_ep || setup_.topology.node_shares_memory;
    }

    /// Copies by rising expert, and so by rising destination; within an expert by token.
    void sort_copies(const Routing& routing) {
        const int64_t n_copies = routing.n_tokens * routing.k;
        first_copy_.assign(static_cast<size_t>(setup_.num_experts + 1), 0);
        for (int64_t i = 0; i < n_copies; ++i) {
            ++first_copy_[static_cast<size_t>(routing.experts[static_cast<size_t>(i)]) + 1];
        }
        std::partial_sum(first_copy_.begin(), first_copy_.end(), first_copy_.begin());
        next_.assign(first_copy_.begin(), first_copy_.end() - 1);
        entry_of_copy_.resize(static_cast<size_t>(n_copies));
        for (int64_t i = 0; i < n_copies; ++i) {
            const auto expert = static_cast<size_t>(routing.experts[static_cast<size_t>(i)]);
            entry_of_copy_[static_cast<size_t>(next_[expert]++)] = i;
        }
        const int n_destinations = across_.size();
        std::vector<int> counts;
        for (int d = 0; d < n_destinations; ++d) {
            const Range range = partition(setup_.num_experts, n_destinations, d);
            counts.push_back(mpi_int(
                first_copy_[static_cast<size_t>(range.end)] - first_copy_[static_cast<size_t>(range.begin)],
                "copies of tokens"));
        }
        sent_.set(counts);
    }

    void send_copies(const float* x, const Routing& routing) {
        const int64_t hidden = setup_.hidden_size;
        std::vector<int> counts(sent_.counts.size());
        call_mpi("MPI_Alltoall", MPI_Alltoall, sent_.counts.data(), 1, MPI_INT, counts.data(), 1, MPI_INT,
                 raw(across_));
        received_.set(counts);
        sent_rows_.resize(entry_of_copy_.size() * static_cast<size_t>(hidden));
        sent_experts_.resize(entry_of_copy_.size());
        for (size_t c = 0; c < entry_of_copy_.size(); ++c) {
            const int64_t entry = entry_of_copy_[c];
            sent_experts_[c] = routing.experts[static_cast<size_t>(entry)];
            std::memcpy(sent_rows_.data() + static_cast<int64_t>(c) * hidden, x + entry / routing.k * hidden,
                        static_cast<size_t>(hidden) * sizeof(float));
        }
        received_rows_.resize(static_cast<size_t>(received_.total * hidden));
        received_experts_.resize(static_cast<size_t>(received_.total));
        all_to_all(sent_rows_.data(), sent_, received_rows_.data(), received_, row_.get());
        all_to_all(sent_experts_.data(), sent_, received_experts_.data(), received_, MPI_INT32_T);
        const auto copy_bytes = hidden * static_cast<int64_t>(sizeof(float));
        internode_bytes_ += n_internode(sent_) * (copy_bytes + static_cast<int64_t>(sizeof(int32_t))) +
                            n_internode(received_) * copy_bytes;
    }

    int64_t gather_inside(const std::vector<int64_t>& rows_of_rank) {
        const int64_t hidden = setup_.hidden_size;
        int64_t first = 0;
        for (int r = 0; r < tokens_->rank(); ++r)
            first += rows_of_rank[static_cast<size_t>(r)];
        const int64_t n_rows = std::accumulate(rows_of_rank.begin(), rows_of_rank.end(), int64_t{0});
        float* tokens = tokens_->start_gather(rows_of_rank, hidden);
        copy_bytes(tokens + first * hidden, received_rows_.data(), received_rows_.size() * sizeof(float));
        float* experts = experts_->start_gather(rows_of_rank, 1);
        copy_bytes(experts + first, received_experts_.data(), received_experts_.size() * sizeof(int32_t));
        gathered_tokens_ = tokens_->finish_gather();
        const float* gathered_experts = experts_->finish_gather();
        row_experts_.resize(static_cast<size_t>(n_rows));
        copy_bytes(row_experts_.data(), gathered_experts, row_experts_.size() * sizeof(int32_t));
        row_weights_.assign(static_cast<size_t>(n_rows), 1.0F);
        assignment_.build(n_rows, 1, row_experts_.data(), row_weights_.data(), local_);
        return n_rows;
    }

    void return_copies() {
        all_to_all(received_rows_.data(), received_, sent_rows_.data(), sent_, row_.get());
    }

    void sum_copies(const Routing& routing, float* y) {
        const int64_t hidden = setup_.hidden_size;
        is_written_.assign(static_cast<size_t>(routing.n_tokens), 0);
        for (size_t c = 0; c < entry_of_copy_.size(); ++c) {
            const int64_t entry = entry_of_copy_[c];
            const float weight = routing.weights[static_cast<size_t>(entry)];
            const float* copy = sent_rows_.data() + static_cast<int64_t>(c) * hidden;
            float* sum = y + entry / routing.k * hidden;
            uint8_t& is_written = is_written_[static_cast<size_t>(entry / routing.k)];
            if (is_written != 0) {
                for (int64_t i = 0; i < hidden; ++i)
                    sum[i] += weight * copy[i];
            } else {
                for (int64_t i = 0; i < hidden; ++i)
                    sum[i] = weight * copy[i];
            }
            is_written = 1;
        }
    }

    void all_to_all(const void* sent, const RowCounts& out, void* received, const RowCounts& in,
                    MPI_Datatype type) {
        const PhaseScope idle(setup_.timer, Phase::idle);
        call_mpi("MPI_Alltoallv", MPI_Alltoallv, sent, out.counts.data(), out.offsets.data(), type, received,
                 in.counts.data(), in.offsets.data(), type, raw(across_));
    }

    int64_t n_internode(const RowCounts& rows) const {
        int64_t n = 0;
        for (int d = 0; d < across_.size(); ++d) {
            if (d / ranks_per_destination_node_ != setup_.topology.node_index)
                n += rows.counts[static_cast<size_t>(d)];
        }
        return n;
    }

    const ExchangeSetup setup_;
    Range local_;
    const Communicator& across_;
    Communicator inside_;
    std::unique_ptr<TensorGroup> tokens_;
    std::unique_ptr<TensorGroup> experts_;
    int ranks_per_destination_node_;
    RowType row_;

    std::vector<int64_t> first_copy_;     // [num_experts + 1]
    std::vector<int64_t> next_;           // [num_experts]
    std::vector<int64_t> entry_of_copy_;  // [n_copies], an index of routing.experts
    RowCounts sent_, received_;
    std::vector<float> sent_rows_, received_rows_;
    std::vector<int32_t> sent_experts_, received_experts_;
    const float* gathered_tokens_ = nullptr;
    std::vector<int32_t> row_experts_;
    std::vector<float> row_weights_;
    std::vector<uint8_t> is_written_;
    Assignment assignment_;
    int64_t internode_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Exchange> make_copy_exchange(Strategy strategy, const ExchangeSetup& setup) {
    return std::make_unique<CopyExchange>(strategy, setup);
}

}  // namespace mixserve::comm
