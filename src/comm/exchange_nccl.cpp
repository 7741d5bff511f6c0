#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/heartbeat.h"
#include "comm/exchange_parts.h"
#include "comm/gpu_communicator.h"
#include "comm/tensor_group_parts.h"
#include "device/gpu.h"
#include "kernels/packing.h"

namespace mixserve::comm {
namespace {

/// Who exchanges with whom under a strategy: `across`, the n ranks that stand for the nodes, each with
/// experts of its own, and `inside`, the p ranks that share each such set of experts. Rank (s, q) of them is
/// rank first + s * p + q of `all`.
struct Parties {
    const Communicator* across = nullptr;  // null: there is one node
    const Communicator* inside = nullptr;  // null: p = 1
    const Communicator* all = nullptr;
    int n = 1, a = 0;
    int p = 1, q = 0;
    int ranks_a_node = 1;  // of `across`, in the topology's nodes
};

Parties parties_of(Strategy strategy, const Topology& topology) {
    const Communicator& world = topology.world;
    switch (strategy) {
        case Strategy::tp:
            return {nullptr, &world, &world, 1, 0, world.size(), world.rank()};
        case Strategy::tp_pp:
            return {nullptr, &topology.node, &topology.node, 1, 0, topology.node.size(), topology.node_rank};
        case Strategy::dp_ep:
            return {&world, nullptr, &world, world.size(), world.rank(), 1, 0, topology.ranks_per_node};
        case Strategy::tp_ep:
        case Strategy::fused:
            break;
    }
    return {&topology.lane,          &topology.node,    &world, topology.n_nodes, topology.node_index,
            topology.ranks_per_node, topology.node_rank};
}

/// Every strategy's exchange with rows that stay on GPUs. For each node a rank packs the rows that go there
/// (tokens, each once, for `fused`; a copy an expert for `tp-ep` and `dp-ep`) with their experts and weights
/// beside them; the ranks of the same place swap these between nodes, the ranks of a node gather what came,
/// multiply, and give each other their partial sums, which go back the way the rows came.
///
/// With many rows an expert, where reading its weights once a node costs little, the nodes' blocks are apart:
/// rows travel, are gathered, multiplied, summed and returned on a queue each, held together by events; the
/// own block comes first, while the others are on the wire. With few all is one block on the stream's queue.
///
/// How large messages are the host must know. Where a message of all of a rank's rows is small, that is what
/// is sent, filled up with nothing, and the host waits for nothing at all. Else the counts come to it, one
/// small copy a layer.
class NcclExchange final : public Exchange {
  public:
    NcclExchange(Strategy strategy, const ExchangeSetup& setup)
        : setup_(setup),
          parties_(parties_of(strategy, setup.topology)),
          sends_copies_(strategy == Strategy::tp_ep || strategy == Strategy::dp_ep),
          may_split_(strategy == Strategy::fused && parties_.n > 1),
          local_(place_experts(strategy, setup.expert_split, setup.topology, setup.num_experts).experts),
          stream_(setup.stream) {
        format_.type = strategy == Strategy::fused && parties_.n > 1 ? setup.wire_type : WireType::f32;
        format_.hidden_size = setup.hidden_size;
        if (parties_.n > 1) {
            out_.emplace(*parties_.across, "exchange between nodes, out");
            back_.emplace(*parties_.across, "exchange between nodes, back");
        }
        if (parties_.p > 1) {
            gather_.emplace(*parties_.inside, "exchange in the node, gather");
            reduce_.emplace(*parties_.inside, "exchange in the node, sums");
        }
        std::vector<int32_t> nodes;
        for (int node = 0; node < parties_.n; ++node) {
            nodes.resize(static_cast<size_t>(partition(setup.num_experts, parties_.n, node).end), node);
        }
        node_of_expert_ = device::Buffer(nodes.size() * sizeof(int32_t), device::Memory::device);
        stream_.upload(node_of_expert_.data(), nodes.data(), nodes.size() * sizeof(int32_t));
        events_.resize(static_cast<size_t>(parties_.n));
    }

    void begin_step(int64_t n_tokens) override { tokens_of_rank_ = parties_.all->all_gather(n_tokens); }

    void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                 float* y) override {
        require(!tokens_of_rank_.empty() &&
                    tokens_of_rank_[static_cast<size_t>(parties_.all->rank())] == routing.n_tokens,
                "the exchange was not told of a step of {} tokens", routing.n_tokens);
        const PhaseScope dispatch(setup_.timer, Phase::dispatch);
        rows_per_token_ = sends_copies_ ? routing.k : 1;
        format_.k = sends_copies_ ? 1 : routing.k;
        plan_rows(routing);
        if (counts_are_needed()) {
            fetch_counts();
        } else {
            take_bounds(routing.k);
        }
        is_split_ = may_split_ && has_many_rows(routing.k);
        lay_out_blocks();
        pack(x, routing);
        send_rows();
        for (size_t b = 0; b < blocks_.size(); ++b) {
            gather(b);
            multiply(b, weights);
            const PhaseScope combine(setup_.timer, Phase::combine);
            reduce(b, y);
            send_back(b);
        }
        const PhaseScope combine(setup_.timer, Phase::combine);
        finish(routing, y);
    }

    int64_t internode_bytes_sent() const override { return internode_bytes_; }

  private:
    /// Sources whose rows are multiplied in one call, own node or not, and where things lie. Gathered rows
    /// are by the rank of the node that they came through, then by source.
    struct Block {
        std::vector<int> sources;
        std::vector<int64_t> rows_of_rank;  // [p]
        int64_t n_rows = 0;
        int64_t n_entries = 0;         // of this rank's experts at most
        int64_t n_likely_entries = 0;  // what to expect
        int64_t first_record = 0;      // of the gathered ones
    };
    /// Of a block.
    struct Events {
        device::GpuEvent arrived, gathered, multiplied, summed;
    };

    static size_t bytes(int64_t n, size_t size) { return static_cast<size_t>(n) * size; }
    template <class T>
    static T* reserve(device::Buffer& buffer, int64_t n) {
        buffer.grow(bytes(n, sizeof(T)), device::Memory::device);
        return buffer.as<T>().data();
    }
    device::GpuQueue& main_queue() { return *stream_.gpu(); }
    device::Stream& on(device::Stream& apart) { return is_split_ ? apart : stream_; }
    void pass(device::GpuEvent& event, device::Stream& from, device::Stream& to) {
        if (&from == &to) return;  // a queue keeps its own order
        event.record(*from.gpu());
        event.hold_back(*to.gpu());
    }

    int64_t tokens_of(int source, int lane) const {
        return tokens_of_rank_[static_cast<size_t>(source * parties_.p + lane)];
    }
    int64_t& rows_in(int source, int lane) {
        return rows_in_[static_cast<size_t>(source * parties_.p + lane)];
    }
    int64_t row_bytes() const { return kernels::wire_row_bytes(format_.type, format_.hidden_size); }

    void plan_rows(const Routing& routing) {
        plan_.n_rows = routing.n_tokens * rows_per_token_;
        plan_.n_nodes = parties_.n;
        const int64_t n_places = parties_.n * plan_.n_rows;
        plan_.rows = reserve<int32_t>(plan_rows_, n_places);
        plan_.places = reserve<int32_t>(plan_places_, n_places);
        plan_.counts = reserve<int32_t>(plan_counts_, 2 * parties_.n);
        kernels::plan_nodes(routing.experts.data(), format_.k, node_of_expert(), plan_, stream_);
    }
    const int32_t* node_of_expert() const { return node_of_expert_.as<int32_t>().data(); }

    /// From what every rank knows, so that all choose alike.
    bool counts_are_needed() const {
        if (parties_.n == 1) return false;  // all rows go to the one node
        const int64_t most = *std::max_element(tokens_of_rank_.begin(), tokens_of_rank_.end());
        return most * rows_per_token_ * format_.record_bytes() > setup_.padded_bytes;
    }
    bool has_many_rows(int64_t k) const {
        int64_t n_tokens = 0;
        for (const int64_t n : tokens_of_rank_)
            n_tokens += n;
        return n_tokens * k >= setup_.split_rows_per_expert * setup_.num_experts * parties_.n;
    }

    /// As if every row went to every node.
    void take_bounds(int64_t k) {
        rows_out_.assign(static_cast<size_t>(parties_.n), plan_.n_rows);
        rows_in_.resize(tokens_of_rank_.size());
        entries_in_.clear();
        likely_in_.clear();
        for (size_t r = 0; r < tokens_of_rank_.size(); ++r)
            rows_in_[r] = tokens_of_rank_[r] * rows_per_token_;
        for (int source = 0; source < parties_.n; ++source) {
            int64_t n_tokens = 0;
            for (int lane = 0; lane < parties_.p; ++lane)
                n_tokens += tokens_of(source, lane);
            entries_in_.push_back(n_tokens * k);
            likely_in_.push_back((n_tokens * k + parties_.n - 1) / parties_.n);
        }
        is_padded_ = true;
    }

    /// How many rows this rank sends to each node, and how many come to its node from each through each of
    /// its ranks.
    void fetch_counts() {
        const int n = parties_.n;
        const int p = parties_.p;
        // Of all sources by way of this rank, for all ranks of the node: [p, n, 2].
        auto* all = reserve<int32_t>(counts_in_, int64_t{p} * n * 2);
        int32_t* mine = all + static_cast<ptrdiff_t>(parties_.q) * n * 2;
        std::vector<GpuCommunicator::Outgoing> sends;
        std::vector<GpuCommunicator::Incoming> receives;
        constexpr size_t pair = 2 * sizeof(int32_t);
        for (int node = 0; node < n; ++node) {
            if (node == parties_.a) continue;
            sends.push_back({node, plan_.counts + 2 * node, pair});
            receives.push_back({node, mine + 2 * node, pair});
        }
        out_->exchange(sends, receives, main_queue());
        main_queue().copy_inside(mine + 2 * parties_.a, plan_.counts + 2 * parties_.a, pair);
        const size_t n_bytes = static_cast<size_t>(n) * pair;
        if (p > 1) gather_->all_gather(mine, n_bytes, all, main_queue());
        host_counts_.reserve(n_bytes * static_cast<size_t>(p + 1), device::Memory::pinned);
        auto* host = host_counts_.as<int32_t>().data();
        main_queue().copy_out(host, plan_.counts, n_bytes);
        main_queue().copy_out(host + 2 * n, all, n_bytes * static_cast<size_t>(p));
        counted_.record(main_queue());
        {
            const PhaseScope idle(setup_.timer, Phase::idle);
            const WaitScope waiting("the exchange's counts");
            counted_.wait();
        }
        rows_out_.clear();
        for (int node = 0; node < n; ++node)
            rows_out_.push_back(host[2 * node]);
        rows_in_.resize(static_cast<size_t>(n * p));
        entries_in_.assign(static_cast<size_t>(n), 0);
        for (int lane = 0; lane < p; ++lane) {
            for (int source = 0; source < n; ++source) {
                const int32_t* counts = host + 2 * (n + lane * n + source);
                rows_in(source, lane) = counts[0];
                entries_in_[static_cast<size_t>(source)] += counts[1];
            }
        }
        likely_in_ = entries_in_;
        is_padded_ = false;
    }

    void lay_out_blocks() {
        blocks_.clear();
        blocks_.resize(is_split_ ? static_cast<size_t>(parties_.n) : 1);
        for (int i = 0; i < parties_.n; ++i) {
            // The own one first, then as they come; or in one block by rising node.
            const int source = is_split_ ? (parties_.a - i + parties_.n) % parties_.n : i;
            blocks_[is_split_ ? static_cast<size_t>(i) : 0].sources.push_back(source);
        }
        record_of_source_.assign(static_cast<size_t>(parties_.n), 0);
        sum_of_source_.assign(static_cast<size_t>(parties_.n), 0);
        int64_t n_records = 0;
        int64_t n_sums = 0;
        int64_t most_rows = 0;
        int64_t most_own_rows = 0;
        for (Block& block : blocks_) {
            block.first_record = n_records;
            block.rows_of_rank.assign(static_cast<size_t>(parties_.p), 0);
            for (int lane = 0; lane < parties_.p; ++lane) {
                for (const int source : block.sources) {
                    if (lane == parties_.q) {
                        record_of_source_[static_cast<size_t>(source)] = n_records;
                        sum_of_source_[static_cast<size_t>(source)] = n_sums;
                        if (source != parties_.a) n_sums += rows_in(source, lane);
                    }
                    block.rows_of_rank[static_cast<size_t>(lane)] += rows_in(source, lane);
                    n_records += rows_in(source, lane);
                }
            }
            for (const int source : block.sources) {
                block.n_entries += entries_in_[static_cast<size_t>(source)];
                block.n_likely_entries += likely_in_[static_cast<size_t>(source)];
            }
            block.n_rows = n_records - block.first_record;
            most_rows = std::max(most_rows, block.n_rows);
            most_own_rows = std::max(most_own_rows, block.rows_of_rank[static_cast<size_t>(parties_.q)]);
        }
        int64_t n_out = 0;
        int64_t n_returned = 0;
        first_out_.clear();
        first_returned_.clear();
        for (int node = 0; node < parties_.n; ++node) {
            const int64_t n_rows = rows_out_[static_cast<size_t>(node)];
            first_out_.push_back(n_out);
            first_returned_.push_back(n_returned);
            if (node != parties_.a) n_out += n_rows;
            n_returned += n_rows;
        }
        const int64_t hidden = format_.hidden_size;
        out_records_ = reserve<std::byte>(out_memory_, n_out * format_.record_bytes());
        records_ = reserve<std::byte>(record_memory_, n_records * format_.record_bytes());
        if (!sums_go_to_y()) returned_ = reserve<std::byte>(returned_memory_, n_returned * row_bytes());
        sums_ = reserve<std::byte>(sum_memory_, n_sums * row_bytes());
        x_ = reserve<float>(x_memory_, most_rows * hidden);
        experts_ = reserve<int32_t>(expert_memory_, most_rows * format_.k);
        gate_weights_ = reserve<float>(weight_memory_, most_rows * format_.k);
        for (int turn = 0; turn < (is_split_ ? 2 : 1); ++turn)
            partials_[turn] = reserve<float>(partial_memory_[turn], most_rows * hidden);
        if (parties_.p > 1) received_ = reserve<float>(received_memory_, most_own_rows * hidden * parties_.p);
    }
    /// Tokens that went to the one node only: nothing is to be added to what their ranks added.
    bool sums_go_to_y() const { return parties_.n == 1 && !sends_copies_; }

    /// The own node's rows go to their place among the gathered ones.
    void pack(const float* x, const Routing& routing) {
        const kernels::RowSource source{x, rows_per_token_, routing.experts.data(),
                                        sends_copies_ ? nullptr : routing.weights.data()};
        const int64_t record = format_.record_bytes();
        const auto put = [&](int first, int n_nodes, std::byte* to) {
            const int64_t n_rows = rows_out_[static_cast<size_t>(first)];
            kernels::pack_records(source, plan_, format_, first, n_nodes, n_rows, to, n_rows * record,
                                  stream_);
        };
        put(parties_.a, 1, records_ + record_of_source_[static_cast<size_t>(parties_.a)] * record);
        // Messages of one size are packed in one go.
        for (int node = 0; node < parties_.n;) {
            const int end = node < parties_.a ? parties_.a : parties_.n;
            const int n_nodes = is_padded_ ? end - node : 1;
            if (node != parties_.a)
                put(node, n_nodes, out_records_ + first_out_[static_cast<size_t>(node)] * record);
            node += node == parties_.a ? 1 : n_nodes;
        }
        if (is_split_) {
            packed_.record(main_queue());
            for (device::Stream* queue : {&out_queue_, &gather_queue_})
                packed_.hold_back(*queue->gpu());
        }
    }

    GpuCommunicator::Outgoing rows_to(int node) {
        const int64_t record = format_.record_bytes();
        return {node, out_records_ + first_out_[static_cast<size_t>(node)] * record,
                bytes(rows_out_[static_cast<size_t>(node)], static_cast<size_t>(record))};
    }
    GpuCommunicator::Incoming rows_from(int node) {
        const int64_t record = format_.record_bytes();
        return {node, records_ + record_of_source_[static_cast<size_t>(node)] * record,
                bytes(rows_in(node, parties_.q), static_cast<size_t>(record))};
    }
    GpuCommunicator::Outgoing sums_to(int node) {
        return {node, sums_ + sum_of_source_[static_cast<size_t>(node)] * row_bytes(),
                bytes(rows_in(node, parties_.q), static_cast<size_t>(row_bytes()))};
    }
    GpuCommunicator::Incoming sums_from(int node) {
        return {node, returned_ + first_returned_[static_cast<size_t>(node)] * row_bytes(),
                bytes(rows_out_[static_cast<size_t>(node)], static_cast<size_t>(row_bytes()))};
    }

    /// Swaps with the other nodes: step i goes to the i-th after this one and comes from the i-th before, so
    /// that every wire carries one message each way at a time; or all steps at once.
    void send_rows() {
        const int n = parties_.n;
        std::vector<GpuCommunicator::Outgoing> sends;
        std::vector<GpuCommunicator::Incoming> receives;
        for (int i = 1; i < n; ++i) {
            const auto& send = sends.emplace_back(rows_to((parties_.a + i) % n));
            receives.push_back(rows_from((parties_.a - i + n) % n));
            count_bytes(send.to, send.n_bytes);
            if (!is_split_) continue;
            out_->exchange(sends, receives, *out_queue_.gpu());
            pass(events_[static_cast<size_t>(i)].arrived, out_queue_, gather_queue_);
            sends.clear();
            receives.clear();
        }
        if (!sends.empty()) out_->exchange(sends, receives, main_queue());
    }

    void gather(size_t b) {
        const Block& block = blocks_[b];
        device::Stream& queue = on(gather_queue_);
        if (is_split_ && b > 0) events_[b].arrived.hold_back(*queue.gpu());
        if (parties_.p > 1 && block.n_rows > 0) {
            gather_rows(records_ + block.first_record * format_.record_bytes(),
                        static_cast<size_t>(format_.record_bytes()), block.rows_of_rank, *gather_,
                        *queue.gpu());
        }
        pass(events_[b].gathered, queue, stream_);
    }

    void multiply(size_t b, const kernels::ExpertWeights& weights) {
        const Block& block = blocks_[b];
        // The partial sums of the block before the last must have been read.
        if (is_split_ && b >= 2) events_[b - 2].summed.hold_back(main_queue());
        if (block.n_rows > 0) {
            kernels::unpack_records(records_ + block.first_record * format_.record_bytes(), block.n_rows,
                                    format_, x_, experts_, gate_weights_, stream_);
            if (!setup_.skip_products) {
                const PhaseScope products(setup_.timer, Phase::experts);
                kernels::expert_mlp(
                    x_, block.n_rows,
                    kernels::ChosenExperts{.experts = experts_,
                                           .weights = gate_weights_,
                                           .k = format_.k,
                                           .first_expert = local_.begin,
                                           .max_entries = block.n_entries,
                                           .likely_entries = own_share(block.n_likely_entries)},
                    weights, partials_[b % 2], stream_);
            }
        }
        pass(events_[b].multiplied, stream_, on(reduce_queue_));
    }

    /// Of entries of this node's experts, as many as this rank's part of them takes.
    int64_t own_share(int64_t n_entries) const {
        const int64_t n_here = partition(setup_.num_experts, parties_.n, parties_.a).size();
        return n_here == 0 ? 0 : n_entries * local_.size() / n_here;
    }

    /// The own node's sums are where they are wanted; where there is one node only and tokens travelled, in
    /// y.
    void reduce(size_t b, float* y) {
        const Block& block = blocks_[b];
        device::Stream& queue = on(reduce_queue_);
        const int64_t hidden = format_.hidden_size;
        const float* partials = partials_[b % 2];
        const int64_t n_own = block.rows_of_rank[static_cast<size_t>(parties_.q)];
        int64_t first = 0;
        for (int lane = 0; lane < parties_.q; ++lane)
            first += block.rows_of_rank[static_cast<size_t>(lane)];
        if (parties_.p > 1 && block.n_rows > 0) {
            scatter_partials(partials, bytes(hidden, sizeof(float)), block.rows_of_rank, received_, *reduce_,
                             *queue.gpu());
        }
        kernels::RankParts parts{.own = partials + first * hidden,
                                 .others = received_,
                                 .stride = n_own * hidden,
                                 .own_rank = parties_.q,
                                 .n_ranks = parties_.p};
        if (sums_go_to_y()) {
            kernels::sum_ranks(parts, n_own * hidden, y, false, queue);
        } else {
            for (const int source : block.sources) {
                const int64_t n_rows = rows_in(source, parties_.q);
                std::byte* to = source == parties_.a
                                    ? returned_ + first_returned_[static_cast<size_t>(source)] * row_bytes()
                                    : sums_ + sum_of_source_[static_cast<size_t>(source)] * row_bytes();
                kernels::sum_ranks_to_wire(parts, n_rows, hidden, format_.type, to, queue);
                parts.own += n_rows * hidden;
                parts.others += n_rows * hidden;
            }
        }
        pass(events_[b].summed, queue, on(back_queue_));
    }

    void send_back(size_t b) {
        const int n = parties_.n;
        if (n == 1 || (is_split_ && b == 0)) return;
        std::vector<GpuCommunicator::Outgoing> sends;
        std::vector<GpuCommunicator::Incoming> receives;
        const int begin = is_split_ ? static_cast<int>(b) : 1;
        const int end = is_split_ ? begin + 1 : n;
        for (int i = begin; i < end; ++i) {
            const auto& send = sends.emplace_back(sums_to((parties_.a - i + n) % n));
            receives.push_back(sums_from((parties_.a + i) % n));
            count_bytes(send.to, send.n_bytes);
        }
        back_->exchange(sends, receives, *on(back_queue_).gpu());
    }

    void finish(const Routing& routing, float* y) {
        if (is_split_) {
            // What the other queues hold of this layer is done before anything of the next begins.
            for (device::Stream* queue : {&out_queue_, &gather_queue_, &reduce_queue_, &back_queue_})
                pass(left_, *queue, stream_);
        }
        if (parties_.n == 1) count_group_bytes(routing.n_tokens);
        if (sums_go_to_y()) return;
        const kernels::ReturnedSums sums{returned_, format_.type, format_.hidden_size,
                                         is_padded_ ? plan_.n_rows : -1};
        if (sends_copies_) {
            kernels::add_weighted_sums(sums, plan_, routing.experts.data(), routing.weights.data(), routing.k,
                                       node_of_expert(), y, stream_);
        } else {
            kernels::add_node_sums(sums, plan_, y, stream_);
        }
    }

    /// `to`: a rank of `across`, which for dp-ep may be in this rank's node.
    void count_bytes(int to, size_t n_bytes) {
        if (to / parties_.ranks_a_node != setup_.topology.node_index)
            internode_bytes_ += static_cast<int64_t>(n_bytes);
    }

    /// What a rank of `tp` sends to other nodes at least: its rows to each of them, and its partial sums of
    /// theirs.
    void count_group_bytes(int64_t n_tokens) {
        const Topology& topology = setup_.topology;
        if (topology.n_nodes == 1 || parties_.all->size() != topology.world.size()) return;
        internode_bytes_ += n_tokens * format_.record_bytes() * (topology.n_nodes - 1);
        for (int r = 0; r < parties_.p; ++r) {
            if (r / topology.ranks_per_node != topology.node_index)
                internode_bytes_ += tokens_of(0, r) * format_.hidden_size * 4;
        }
    }

    const ExchangeSetup setup_;
    const Parties parties_;
    const bool sends_copies_;
    const bool may_split_;
    const Range local_;  // this rank's experts
    device::Stream& stream_;
    kernels::RecordFormat format_;
    std::optional<GpuCommunicator> out_, back_, gather_, reduce_;
    device::Stream out_queue_{1, device::GpuQueue()};
    device::Stream gather_queue_{1, device::GpuQueue()};
    device::Stream reduce_queue_{1, device::GpuQueue()};
    device::Stream back_queue_{1, device::GpuQueue()};
    device::Buffer node_of_expert_;  // [num_experts]
    std::vector<Events> events_;     // [n], of each block
    device::GpuEvent packed_, counted_, left_;

    std::vector<int64_t> tokens_of_rank_;  // of `all`, in this step
    int64_t rows_per_token_ = 1;
    kernels::NodePlan plan_;
    bool is_padded_ = false;
    bool is_split_ = false;
    std::vector<int64_t> rows_out_;                // [n]
    std::vector<int64_t> first_out_;               // [n], without those that stay here
    std::vector<int64_t> first_returned_;          // [n]
    std::vector<int64_t> rows_in_;                 // [n, p]
    std::vector<int64_t> entries_in_, likely_in_;  // [n], of the node's experts
    std::vector<Block> blocks_;
    std::vector<int64_t> record_of_source_, sum_of_source_;  // [n], the first of this lane's
    int64_t internode_bytes_ = 0;

    device::Buffer plan_rows_, plan_places_, plan_counts_, counts_in_, host_counts_;
    device::Buffer out_memory_, record_memory_, returned_memory_, sum_memory_;
    device::Buffer x_memory_, expert_memory_, weight_memory_, partial_memory_[2], received_memory_;
    std::byte* out_records_ = nullptr;  // to each node, but this one
    std::byte* records_ = nullptr;      // gathered, of all blocks
    std::byte* returned_ = nullptr;     // sums of this rank's rows, as they travel, by node
    std::byte* sums_ = nullptr;         // of this lane's rows, as they travel
    float* x_ = nullptr;                // of one block, like the next two
    int32_t* experts_ = nullptr;
    float* gate_weights_ = nullptr;
    float* partials_[2] = {};    // of a block and of the one before
    float* received_ = nullptr;  // the others' partial sums of this rank's rows of a block
};

}  // namespace

std::unique_ptr<Exchange> make_nccl_exchange(Strategy strategy, const ExchangeSetup& setup) {
    return std::make_unique<NcclExchange>(strategy, setup);
}

}  // namespace mixserve::comm
