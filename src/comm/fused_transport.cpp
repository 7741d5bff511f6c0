#include "comm/fused_transport.h"

#include <algorithm>
#include <new>

#include "base/clock.h"
#include "comm/ordered_sum.h"
#include "kernels/wire.h"

namespace mixserve::comm {
namespace {

constexpr int tokens_tag = 1;
constexpr int sums_tag = 2;
// Between tiles of products MPI is asked this often: its sockets hold more than arrives in that time at 10
// Gbit/s.
constexpr double progress_interval_s = 50e-6;

}  // namespace

FusedTransport::FusedTransport(const ExchangeSetup& setup, const FusedLayout& layout,
                               const SharedSegments& memory)
    : setup_(setup),
      layout_(layout),
      memory_(memory),
      lane_(setup.topology.lane.split(0, setup.topology.node_index)),
      node_(setup.topology.node_index),
      rank_(setup.topology.node_rank),
      own_segment_(memory.segment(rank_)),
      outgoing_(static_cast<size_t>(layout.n_nodes)),
      incoming_(static_cast<size_t>(layout.n_nodes)),
      sum_(static_cast<size_t>(layout.chunk_rows * layout.hidden_size)),
      parts_(static_cast<size_t>(layout.ranks_per_node)) {
    for (Outgoing& outgoing : outgoing_)
        outgoing.n_open.assign(static_cast<size_t>(layout.n_slots), 0);
    if (layout.n_nodes > 1) {
        out_buffers_.resize(
            static_cast<size_t>(int64_t{layout.n_nodes} * layout.n_slots * layout.slot_bytes));
    }
    for (int node = 0; node < layout.n_nodes; ++node) {
        for (int slot = 0; slot < layout.n_slots; ++slot) {
            auto* state = new (layout.state(own_segment_, node, slot)) SlotState;
            state->ready.store(0);
            state->n_done.store(0);
        }
    }
}

void FusedTransport::start(int64_t layer, const FusedPlan& plan, int64_t n_tokens, const float* x, float* y) {
    begin_s_ = now_s();
    arrival_s_ = 0;
    layer_ = layer;
    plan_ = &plan;
    x_ = x;
    y_ = y;
    for (int node = 0; node < layout_.n_nodes; ++node) {
        Outgoing& outgoing = outgoing_[static_cast<size_t>(node)];
        outgoing.n_chunks = layout_.n_chunks(static_cast<int64_t>(plan.tokens(node).size()));
        outgoing.next_chunk = 0;
        incoming_[static_cast<size_t>(node)] = {};
    }
    incoming_[static_cast<size_t>(node_)].n_chunks = outgoing_[static_cast<size_t>(node_)].n_chunks;
    n_tokens_left_ = n_tokens;
    n_missing_.resize(static_cast<size_t>(n_tokens));
    for (int64_t t = 0; t < n_tokens; ++t) {
        n_missing_[static_cast<size_t>(t)] = static_cast<int32_t>(plan.rows_of_token(t).size());
    }
    if (layout_.n_nodes > 1) {
        returned_.resize(static_cast<size_t>(plan.n_rows() * layout_.hidden_size));
        if (layout_.wire_type != WireType::f32) {
            staged_.resize(static_cast<size_t>(plan.n_rows() * layout_.row_bytes()));
        }
    }
    for (int i = 1; i < layout_.n_nodes; ++i)
        post_receives((node_ + i) % layout_.n_nodes);
    // One chunk of each block in turn, so that every wire has work. Testing the requests in between may
    // already send further ones.
    bool is_sending = layout_.n_nodes > 1;
    while (is_sending) {
        is_sending = false;
        for (int i = 1; i < layout_.n_nodes; ++i) {
            const int node = (node_ + i) % layout_.n_nodes;
            const Outgoing& outgoing = outgoing_[static_cast<size_t>(node)];
            if (outgoing.next_chunk >= std::min<int64_t>(outgoing.n_chunks, layout_.n_slots)) continue;
            send_tokens(node);
            is_sending = true;
        }
        test_requests();
    }
    offer_own_chunks();
}

bool FusedTransport::is_finished() const {
    if (!requests_.empty() || n_tokens_left_ > 0) return false;
    return std::all_of(incoming_.begin(), incoming_.end(),
                       [](const Incoming& incoming) { return incoming.next_sum == incoming.n_chunks; });
}

void FusedTransport::progress_rarely() {
    const double now = now_s();
    if (now - last_progress_s_ < progress_interval_s) return;
    progress();
    last_progress_s_ = now;
}

void FusedTransport::progress() {
    if (is_in_progress_) return;
    is_in_progress_ = true;
    test_requests();
    for (int source = 0; source < layout_.n_nodes; ++source)
        add_ready_sums(source);
    is_in_progress_ = false;
}

/// Sends the next chunk of a block, if there is one and its slot is free.
void FusedTransport::send_tokens(int node) {
    Outgoing& outgoing = outgoing_[static_cast<size_t>(node)];
    const int64_t chunk = outgoing.next_chunk;
    if (chunk == outgoing.n_chunks) return;
    uint8_t& n_open = outgoing.n_open[static_cast<size_t>(slot_of(chunk))];
    if (n_open > 0) return;
    const PhaseScope phase(setup_.timer, Phase::dispatch);
    ++outgoing.next_chunk;
    const Range rows = chunk_range(node, chunk);
    const ChunkView view{out_buffer(node, chunk)};
    plan_->pack(layout_, node, rows.begin, rows.end, x_, view);
    if (rows.size() > 0) {
        ++n_open;
        const int64_t n_bytes = rows.size() * layout_.row_bytes();
        void* into = layout_.wire_type == WireType::f32 ? static_cast<void*>(returned_rows(node, chunk))
                                                        : static_cast<void*>(staged_sums(node, chunk));
        check_mpi(MPI_Irecv(into, static_cast<int>(n_bytes), MPI_BYTE, node, sums_tag, raw(lane_),
                            &add_request(Kind::sums_in, node, chunk)),
                  "MPI_Irecv");
    }
    ++n_open;
    check_mpi(MPI_Isend(view.message, view.header().n_bytes, MPI_BYTE, node, tokens_tag, raw(lane_),
                        &add_request(Kind::tokens_out, node, chunk)),
              "MPI_Isend");
    bytes_sent_ += view.header().n_bytes;
}

/// Receives of the first chunk, which is always there, and of as many others as are known to come and have a
/// free slot.
void FusedTransport::post_receives(int node) {
    Incoming& incoming = incoming_[static_cast<size_t>(node)];
    const int64_t n_known = std::max<int64_t>(incoming.n_chunks, 1);
    const int64_t n_fit = incoming.next_sum + layout_.n_slots;
    while (incoming.next_receive < std::min(n_known, n_fit)) {
        const int64_t chunk = incoming.next_receive++;
        check_mpi(MPI_Irecv(layout_.message(own_segment_, node, slot_of(chunk)).message,
                            static_cast<int>(layout_.slot_bytes), MPI_BYTE, node, tokens_tag, raw(lane_),
                            &add_request(Kind::tokens_in, node, chunk)),
                  "MPI_Irecv");
    }
}

/// The own block goes straight into the slots that the neighbours read.
void FusedTransport::offer_own_chunks() {
    Outgoing& outgoing = outgoing_[static_cast<size_t>(node_)];
    const int64_t n_fit = incoming_[static_cast<size_t>(node_)].next_sum + layout_.n_slots;
    while (outgoing.next_chunk < std::min(outgoing.n_chunks, n_fit)) {
        const PhaseScope phase(setup_.timer, Phase::dispatch);
        const int64_t chunk = outgoing.next_chunk++;
        const Range rows = chunk_range(node_, chunk);
        plan_->pack(layout_, node_, rows.begin, rows.end, x_,
                    layout_.message(own_segment_, node_, slot_of(chunk)));
        publish(node_, chunk);
    }
}

void FusedTransport::publish(int source, int64_t chunk) {
    const int slot = slot_of(chunk);
    if (layout_.wire_type != WireType::f32) {
        const ChunkView view = layout_.message(own_segment_, source, slot);
        decode_rows(layout_.wire_type, view.rows(), view.header().n_rows, layout_.hidden_size,
                    layout_.tokens(own_segment_, source, slot));
    }
    SlotState* state = layout_.state(own_segment_, source, slot);
    state->n_done.store(0, std::memory_order_relaxed);
    state->ready.store(sequence_number(layer_, chunk), std::memory_order_release);
}

void FusedTransport::add_ready_sums(int source) {
    Incoming& incoming = incoming_[static_cast<size_t>(source)];
    while (incoming.next_sum != incoming.n_chunks) {
        const int64_t chunk = incoming.next_sum;
        const SlotState* state = layout_.state(own_segment_, source, slot_of(chunk));
        if (state->ready.load(std::memory_order_relaxed) != sequence_number(layer_, chunk)) return;
        if (state->n_done.load(std::memory_order_acquire) != static_cast<uint32_t>(layout_.ranks_per_node))
            return;
        return_sums(source, chunk);
        ++incoming.next_sum;
        if (source == node_) offer_own_chunks();
    }
}

void FusedTransport::return_sums(int source, int64_t chunk) {
    const int slot = slot_of(chunk);
    const ChunkView view = layout_.message(own_segment_, source, slot);
    const int64_t n_rows = view.header().n_rows;
    if (n_rows == 0) return;
    const PhaseScope phase(setup_.timer, Phase::combine);
    const int64_t n_values = n_rows * layout_.hidden_size;
    for (int r = 0; r < layout_.ranks_per_node; ++r) {
        parts_[static_cast<size_t>(r)] = layout_.partials(memory_.segment(r), rank_, source, slot);
    }
    const bool is_rounded = layout_.wire_type != WireType::f32;
    if (source == node_) {
        float* rows = returned_rows(node_, chunk);
        ordered_sum(parts_, n_values, rows, false);
        if (is_rounded) {
            encode_rows(layout_.wire_type, rows, n_rows, layout_.hidden_size, view.rows());
            decode_rows(layout_.wire_type, view.rows(), n_rows, layout_.hidden_size, rows);
        }
        deliver(node_, chunk);
        return;
    }
    // All ranks have read the tokens, so the sums take their place.
    if (is_rounded) {
        ordered_sum(parts_, n_values, sum_.data(), false);
        encode_rows(layout_.wire_type, sum_.data(), n_rows, layout_.hidden_size, view.rows());
    } else {
        ordered_sum(parts_, n_values, reinterpret_cast<float*>(view.rows()), false);
    }
    const int64_t n_bytes = n_rows * layout_.row_bytes();
    check_mpi(MPI_Isend(view.rows(), static_cast<int>(n_bytes), MPI_BYTE, source, sums_tag, raw(lane_),
                        &add_request(Kind::sums_out, source, chunk)),
              "MPI_Isend");
    bytes_sent_ += n_bytes;
}

void FusedTransport::complete(const Pending& pending) {
    const auto node = static_cast<size_t>(pending.node);
    switch (pending.kind) {
        case Kind::tokens_out:
            --outgoing_[node].n_open[static_cast<size_t>(slot_of(pending.chunk))];
            send_tokens(pending.node);
            break;
        case Kind::sums_in:
            setup_.timer.note_arrival(Phase::combine,
                                      chunk_range(pending.node, pending.chunk).size() * layout_.row_bytes());
            --outgoing_[node].n_open[static_cast<size_t>(slot_of(pending.chunk))];
            if (layout_.wire_type != WireType::f32) {
                decode_rows(layout_.wire_type, staged_sums(pending.node, pending.chunk),
                            chunk_range(pending.node, pending.chunk).size(), layout_.hidden_size,
                            returned_rows(pending.node, pending.chunk));
            }
            deliver(pending.node, pending.chunk);
            send_tokens(pending.node);
            break;
        case Kind::tokens_in: {
            const ChunkView view = layout_.message(own_segment_, pending.node, slot_of(pending.chunk));
            setup_.timer.note_arrival(Phase::dispatch, view.header().n_bytes);
            if (pending.chunk < layout_.n_slots) arrival_s_ = now_s() - begin_s_;
            incoming_[node].n_chunks = view.header().n_chunks;
            publish(pending.node, pending.chunk);
            post_receives(pending.node);
            break;
        }
        case Kind::sums_out:
            post_receives(pending.node);
            break;
    }
}

void FusedTransport::test_requests() {
    if (requests_.empty()) return;
    const int n_requests = static_cast<int>(requests_.size());
    completed_.resize(requests_.size());
    int n_completed = 0;
    check_mpi(
        MPI_Testsome(n_requests, requests_.data(), &n_completed, completed_.data(), MPI_STATUSES_IGNORE),
        "MPI_Testsome");
    if (n_completed <= 0) return;
    completed_.resize(static_cast<size_t>(n_completed));
    std::vector<Pending> done;
    for (const int i : completed_)
        done.push_back(pendings_[static_cast<size_t>(i)]);
    size_t n_kept = 0;
    for (size_t i = 0; i < requests_.size(); ++i) {
        if (requests_[i] == MPI_REQUEST_NULL) continue;
        requests_[n_kept] = requests_[i];
        pendings_[n_kept++] = pendings_[i];
    }
    requests_.resize(n_kept);
    pendings_.resize(n_kept);
    for (const Pending& pending : done)
        complete(pending);
}

void FusedTransport::deliver(int node, int64_t chunk) {
    const Range rows = chunk_range(node, chunk);
    const PhaseScope phase(setup_.timer, Phase::combine);
    for (const int32_t token :
         plan_->tokens(node).subspan(static_cast<size_t>(rows.begin), static_cast<size_t>(rows.size()))) {
        if (--n_missing_[static_cast<size_t>(token)] == 0) finish_token(token);
    }
}

/// Adds a token's sums by rising node.
void FusedTransport::finish_token(int64_t token) {
    --n_tokens_left_;
    if (layout_.n_nodes == 1) return;
    const std::span<const int32_t> rows = plan_->rows_of_token(token);
    std::vector<const float*> parts;
    for (const int32_t row : rows)
        parts.push_back(returned_.data() + row * layout_.hidden_size);
    ordered_sum(parts, layout_.hidden_size, y_ + token * layout_.hidden_size, false);
}

Range FusedTransport::chunk_range(int node, int64_t chunk) const {
    const auto n_rows = static_cast<int64_t>(plan_->tokens(node).size());
    return {chunk * layout_.chunk_rows, std::min(n_rows, (chunk + 1) * layout_.chunk_rows)};
}

/// With one node every token has one row, in the order of tokens: they come back into y.
float* FusedTransport::returned_rows(int node, int64_t chunk) {
    float* rows = layout_.n_nodes == 1 ? y_ : returned_.data();
    return rows + (plan_->first_row(node) + chunk * layout_.chunk_rows) * layout_.hidden_size;
}

std::byte* FusedTransport::staged_sums(int node, int64_t chunk) {
    return staged_.data() + (plan_->first_row(node) + chunk * layout_.chunk_rows) * layout_.row_bytes();
}

std::byte* FusedTransport::out_buffer(int node, int64_t chunk) {
    return out_buffers_.data() + (int64_t{node} * layout_.n_slots + slot_of(chunk)) * layout_.slot_bytes;
}

MPI_Request& FusedTransport::add_request(Kind kind, int node, int64_t chunk) {
    pendings_.push_back({kind, node, chunk});
    return requests_.emplace_back(MPI_REQUEST_NULL);
}

}  // namespace mixserve::comm
