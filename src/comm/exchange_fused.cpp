#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/heartbeat.h"
#include "comm/assignment.h"
#include "comm/exchange_parts.h"
#include "comm/fused_transport.h"

namespace mixserve::comm {
namespace {

// A call of the products reads and unpacks the weights of its experts once. With this many rows an expert
// that is the smaller part of its time; with fewer, one call for all chunks costs less than a call each, even
// if it waits for the wire.
constexpr int64_t rows_per_expert = 32;
// What a thread reads and unpacks weights with, roughly: only to choose what goes into a call.
constexpr double weight_bytes_per_s = 8e9;

/// Sets what a stream polls, for the length of a scope.
class PollScope {
  public:
    PollScope(device::Stream& stream, std::function<void()> poll) : stream_(stream) {
        stream_.set_poll(std::move(poll));
    }
    ~PollScope() { stream_.set_poll({}); }
    PollScope(const PollScope&) = delete;
    PollScope& operator=(const PollScope&) = delete;

  private:
    device::Stream& stream_;
};

/// The products' half: takes chunks that lie ready in the slots of all lanes of the node, as many at once as
/// pays, and stores this rank's partial sums of them. No rank waits for the others: each takes chunks in its
/// own time, and the last to finish one lets its lane's rank add the parts (see FusedTransport). How chunks
/// are put together does not show in the result, since a row of a product has the same bits whatever rows are
/// beside it.
class FusedExchange final : public Exchange {
  public:
    explicit FusedExchange(const ExchangeSetup& setup)
        : setup_(setup), topology_(setup.topology), plan_(setup.topology.n_nodes, setup.num_experts) {
        const Range node = partition(setup.num_experts, topology_.n_nodes, topology_.node_index);
        const Range own =
            place_experts(Strategy::fused, setup.expert_split, topology_, setup.num_experts).experts;
        n_node_experts_ = node.size();
        local_ = {own.begin - node.begin, own.end - node.begin};
    }

    void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                 float* y) override {
        const PhaseScope phase(setup_.timer, Phase::dispatch);
        if (topology_.n_nodes * topology_.ranks_per_node == 1) {
            assignment_.build(routing.n_tokens, routing.k, routing.experts.data(), routing.weights.data(),
                              local_);
            run_experts(setup_, x, routing.n_tokens, assignment_.view(), weights, y);
            return;
        }
        if (!layout_ || routing.k > layout_->k) allocate(routing.k);
        ++layer_;
        for (Reader& reader : readers_) {
            reader.next = 0;
            reader.n_ready = 0;
            reader.n_chunks = -1;
        }
        n_readers_left_ = readers_.size();
        begin_s_ = now_s();
        arrival_is_known_ = false;
        plan_.build(routing);
        transport_->start(layer_, plan_, routing.n_tokens, x, y);
        const PollScope poll(setup_.stream, [this] { transport_->progress_rarely(); });
        const WaitScope waiting("the fused exchange");
        Backoff backoff;
        while (n_readers_left_ > 0 || !transport_->is_finished()) {
            // What lies in shared memory is seen at once, what MPI has takes a call of the system to see.
            if (n_readers_left_ > 0 && choose_chunks(weights)) {
                setup_.timer.enter(Phase::dispatch);
                const WaitScope computing(nullptr);
                multiply(weights);
                backoff = {};
                continue;
            }
            transport_->progress();
            if (setup_.timer.current() != Phase::idle) setup_.timer.enter(Phase::idle);
            backoff.pause();
        }
        wire_s_ += (transport_->arrival_s() - wire_s_) / 4;
    }

    int64_t internode_bytes_sent() const override { return transport_ ? transport_->bytes_sent() : 0; }

  private:
    /// The chunks of one block, from one node through one lane.
    struct Reader {
        int lane;
        int source;
        int64_t next = 0;       // the first that has not been multiplied
        int64_t n_ready = 0;    // from there on
        int64_t n_chunks = -1;  // unknown until the first has come
    };
    struct Chunk {
        SlotState* state;
        ChunkView view;
        const float* tokens;
        float* partials;
    };

    void allocate(int64_t k) {
        transport_.reset();
        layout_.emplace(setup_, k);
        memory_.emplace(topology_.node, layout_->total_bytes());
        transport_ = std::make_unique<FusedTransport>(setup_, *layout_, *memory_);
        topology_.node.barrier();
        readers_.clear();
        // Blocks of other nodes come first: their sums have a way to go. Each node starts with the next
        // one's.
        for (int i = 1; i <= topology_.n_nodes; ++i) {
            for (int lane = 0; lane < topology_.ranks_per_node; ++lane) {
                readers_.push_back({lane, (topology_.node_index + i) % topology_.n_nodes});
            }
        }
    }

    Chunk chunk_at(const Reader& reader, int64_t chunk) const {
        const int slot = static_cast<int>(chunk % layout_->n_slots);
        std::byte* segment = memory_->segment(reader.lane);
        return {layout_->state(segment, reader.source, slot), layout_->message(segment, reader.source, slot),
                layout_->tokens(segment, reader.source, slot),
                layout_->partials(memory_->segment(topology_.node_rank), reader.lane, reader.source, slot)};
    }

    bool is_own(const Reader& reader) const { return reader.source == topology_.node_index; }

    /// Whether more chunks will come without any further products: then waiting is safe.
    struct Coming {
        bool own = false;     // of this node
        bool others = false;  // of other nodes
        bool any() const { return own || others; }
    };
    /// Looks which chunks are ready.
    Coming look() {
        Coming coming;
        for (Reader& reader : readers_) {
            while (reader.n_ready < layout_->n_slots && reader.next + reader.n_ready != reader.n_chunks) {
                const int64_t chunk = reader.next + reader.n_ready;
                const int slot = static_cast<int>(chunk % layout_->n_slots);
                const SlotState* state = layout_->state(memory_->segment(reader.lane), reader.source, slot);
                if (state->ready.load(std::memory_order_acquire) != sequence_number(layer_, chunk)) {
                    if (chunk < layout_->n_slots) (is_own(reader) ? coming.own : coming.others) = true;
                    break;
                }
                ++reader.n_ready;
                reader.n_chunks = chunk_at(reader, chunk).view.header().n_chunks;
            }
        }
        return coming;
    }

    /// Fills `chosen_`; false: nothing to do now.
    bool choose_chunks(const kernels::ExpertWeights& weights) {
        const Coming coming = look();
        if (!coming.any() && !arrival_is_known_) {
            arrival_is_known_ = true;
            arrival_s_ += (now_s() - begin_s_ - arrival_s_) / 4;
        }
        chosen_.clear();
        int64_t n_entries = 0;
        const bool products_are_free = setup_.skip_products || weights.intermediate_size == 0;
        int64_t wanted = products_are_free ? 0 : rows_per_expert * n_node_experts_;
        const int64_t n_ready = n_ready_entries();
        if (!products_are_free && coming.any() && waiting_pays(n_ready, wanted, weights)) return false;
        // Normally no more than pays, so that sums go back soon and what arrives meanwhile comes before the
        // own block. Where the wire takes less time than a further call, there is nothing to hide behind
        // products.
        const bool wire_is_fast =
            !products_are_free && n_ready >= wanted && wire_s_ < read_s(weights.n_experts, weights);
        if (topology_.n_nodes == 1 || wire_is_fast) wanted = std::numeric_limits<int64_t>::max();
        for (Reader& reader : readers_) {
            if (wire_is_fast && is_own(reader) && chosen_.empty() && coming.own) return false;
            while (reader.n_ready > 0) {
                if (!chosen_.empty() && n_entries >= wanted) return true;
                chosen_.push_back(chunk_at(reader, reader.next));
                n_entries += chosen_.back().view.header().n_entries;
                --reader.n_ready;
                if (++reader.next == reader.n_chunks) --n_readers_left_;
            }
        }
        return !chosen_.empty();
    }

    /// Whether to leave `n_entries` ready entries for a larger call with what is still to come. The wait is
    /// taken to be as long as in the layers before.
    bool waiting_pays(int64_t n_entries, int64_t wanted, const kernels::ExpertWeights& weights) const {
        if (n_entries >= wanted) return false;
        return n_entries == 0 ||
               read_s(std::min(n_entries, weights.n_experts), weights) > arrival_s_ - (now_s() - begin_s_);
    }

    /// Seconds to read and unpack the weights of so many experts.
    double read_s(int64_t n_experts, const kernels::ExpertWeights& weights) const {
        const int64_t n_bytes =
            n_experts * 3 * weights.hidden_size * weights.intermediate_size * size_of(weights.dtype);
        return static_cast<double>(n_bytes) / (weight_bytes_per_s * setup_.stream.n_threads());
    }

    int64_t n_ready_entries() const {
        int64_t n_entries = 0;
        for (const Reader& reader : readers_) {
            for (int64_t c = reader.next; c < reader.next + reader.n_ready; ++c) {
                n_entries += chunk_at(reader, c).view.header().n_entries;
            }
        }
        return n_entries;
    }

    void multiply(const kernels::ExpertWeights& weights) {
        assignment_.clear();
        int64_t n_rows = 0;
        for (const Chunk& chunk : chosen_) {
            const float* weight = chunk.view.weights();
            const uint16_t* expert = chunk.view.experts();
            for (int64_t r = 0; r < chunk.view.header().n_rows; ++r, ++n_rows) {
                for (int e = 0; e < chunk.view.row_entries()[r]; ++e)
                    assignment_.add(n_rows, *expert++, *weight++);
            }
        }
        assignment_.group(local_);
        const auto row_bytes = static_cast<size_t>(setup_.hidden_size) * sizeof(float);
        if (chosen_.size() == 1) {
            run_experts(setup_, chosen_[0].tokens, n_rows, assignment_.view(), weights, chosen_[0].partials);
        } else if (!setup_.skip_products) {
            tokens_.resize(static_cast<size_t>(n_rows * setup_.hidden_size));
            partials_.resize(tokens_.size());
            float* tokens = tokens_.data();
            for (const Chunk& chunk : chosen_) {
                const int64_t n = chunk.view.header().n_rows;
                copy_bytes(tokens, chunk.tokens, static_cast<size_t>(n) * row_bytes);
                tokens += n * setup_.hidden_size;
            }
            run_experts(setup_, tokens_.data(), n_rows, assignment_.view(), weights, partials_.data());
            const float* partials = partials_.data();
            for (const Chunk& chunk : chosen_) {
                const int64_t n = chunk.view.header().n_rows;
                copy_bytes(chunk.partials, partials, static_cast<size_t>(n) * row_bytes);
                partials += n * setup_.hidden_size;
            }
        }
        for (const Chunk& chunk : chosen_)
            chunk.state->n_done.fetch_add(1, std::memory_order_acq_rel);
    }

    const ExchangeSetup setup_;
    const Topology& topology_;
    FusedPlan plan_;
    int64_t n_node_experts_ = 0;
    Range local_;  // this rank's experts, counted from the node's first
    int64_t layer_ = 0;

    std::optional<FusedLayout> layout_;
    std::optional<SharedSegments> memory_;
    std::unique_ptr<FusedTransport> transport_;
    std::vector<Reader> readers_;  // [n_nodes * ranks_per_node]
    size_t n_readers_left_ = 0;
    double begin_s_ = 0;  // of this layer
    // Running means over layers of the time from there to the last arrival that nothing held up: as it was
    // seen between calls of the products, and as the transport saw it.
    double arrival_s_ = 0;
    double wire_s_ = 0;
    bool arrival_is_known_ = false;  // in this layer
    std::vector<Chunk> chosen_;
    std::vector<float> tokens_;  // of the chosen chunks, where there are several
    std::vector<float> partials_;
    Assignment assignment_;
};

}  // namespace

std::unique_ptr<Exchange> make_fused_exchange(const ExchangeSetup& setup) {
    return std::make_unique<FusedExchange>(setup);
}

}  // namespace mixserve::comm
