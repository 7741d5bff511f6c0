#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "comm/assignment.h"
#include "comm/exchange_parts.h"

namespace mixserve::comm {
namespace {

class GatherExchange final : public Exchange {
  public:
    GatherExchange(Strategy strategy, const ExchangeSetup& setup)
        : setup_(setup),
          group_(strategy == Strategy::tp ? setup.topology.world : setup.topology.node),
          spans_nodes_(strategy == Strategy::tp && setup.topology.n_nodes > 1),
          tokens_(make_group()),
          routings_(make_group()) {}

    void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                 float* y) override {
        const int64_t hidden = setup_.hidden_size;
        const int64_t k = routing.k;
        PhaseScope phase(setup_.timer, Phase::dispatch);
        const std::vector<int64_t> rows_of_rank = group_.all_gather(routing.n_tokens);
        int64_t n_rows = 0;
        for (const int64_t n : rows_of_rank)
            n_rows += n;

        float* tokens = tokens_->start_gather(rows_of_rank, hidden) + first_row(rows_of_rank) * hidden;
        copy_bytes(tokens, x, static_cast<size_t>(routing.n_tokens * hidden) * sizeof(float));
        // A row of k expert numbers and k gate weights.
        float* own = routings_->start_gather(rows_of_rank, 2 * k) + first_row(rows_of_rank) * 2 * k;
        const size_t row_bytes = static_cast<size_t>(k) * sizeof(float);
        for (int64_t t = 0; t < routing.n_tokens; ++t) {
            std::memcpy(own + 2 * k * t, routing.experts.data() + k * t, row_bytes);
            std::memcpy(own + 2 * k * t + k, routing.weights.data() + k * t, row_bytes);
        }
        const float* all_tokens = tokens_->finish_gather();
        const float* all_routings = routings_->finish_gather();
        experts_.resize(static_cast<size_t>(n_rows * k));
        weights_.resize(experts_.size());
        for (int64_t t = 0; t < n_rows; ++t) {
            std::memcpy(experts_.data() + k * t, all_routings + 2 * k * t, row_bytes);
            std::memcpy(weights_.data() + k * t, all_routings + 2 * k * t + k, row_bytes);
        }
        assignment_.build(n_rows, k, experts_.data(), weights_.data(), {0, setup_.num_experts});

        float* partials = tokens_->start_reduce(rows_of_rank, hidden);
        run_experts(setup_, all_tokens, n_rows, assignment_.view(), weights, partials);
        const PhaseScope combine(setup_.timer, Phase::combine);
        tokens_->finish_reduce(y, false);
        if (spans_nodes_) count_bytes(rows_of_rank, 2 * hidden + 2 * k);
    }

    int64_t internode_bytes_sent() const override { return internode_bytes_; }

  private:
    std::unique_ptr<TensorGroup> make_group() const {
        return make_tensor_group(group_, setup_.topology.node_shares_memory && !spans_nodes_, setup_.timer);
    }

    int64_t first_row(const std::vector<int64_t>& rows_of_rank) const {
        int64_t first = 0;
        for (int r = 0; r < tokens_->rank(); ++r)
            first += rows_of_rank[static_cast<size_t>(r)];
        return first;
    }

    /// What this rank must send at least: its rows to every rank of another node, or to one of them that
    /// passes them on (as MPI's ring does); and its partial sums of their rows.
    void count_bytes(const std::vector<int64_t>& rows_of_rank, int64_t values_per_row) {
        const int p = setup_.topology.ranks_per_node;
        for (int r = 0; r < static_cast<int>(rows_of_rank.size()); ++r) {
            if (r / p == setup_.topology.node_index) continue;
            internode_bytes_ +=
                rows_of_rank[static_cast<size_t>(r)] * values_per_row * static_cast<int64_t>(sizeof(float));
        }
    }

    const ExchangeSetup setup_;
    const Communicator& group_;
    bool spans_nodes_;
    std::unique_ptr<TensorGroup> tokens_;
    std::unique_ptr<TensorGroup> routings_;
    Assignment assignment_;
    std::vector<int32_t> experts_;
    std::vector<float> weights_;
    int64_t internode_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Exchange> make_gather_exchange(Strategy strategy, const ExchangeSetup& setup) {
    return std::make_unique<GatherExchange>(strategy, setup);
}

}  // namespace mixserve::comm
