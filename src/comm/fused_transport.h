#pragma once

#include <cstdint>
#include <vector>

#include "comm/fused_layout.h"
#include "comm/fused_plan.h"
#include "comm/mpi.h"
#include "comm/shared_memory.h"

namespace mixserve::comm {

/// The lane's half of the fused exchange on one rank: sends the owned tokens' chunks to the other nodes,
/// brings arriving chunks into shared memory, and, as soon as every rank of the node has stored its partial
/// sums of one, adds them and sends the sum back. The products are somebody else's: they take chunks whose
/// SlotState::ready has their number, and count SlotState::n_done up.
///
/// A block is one message of its header and first chunk, so that an exchange of few tokens is one message
/// each way; the header says how many chunks follow. At most n_slots chunks of a block are under way: the sum
/// of chunk c that comes back lets chunk c + n_slots go.
class FusedTransport {
  public:
    FusedTransport(const ExchangeSetup& setup, const FusedLayout& layout, const SharedSegments& memory);

    /// Begins layer number `layer`. All arguments stay valid until is_finished().
    ///   x, y [n_tokens, hidden_size]
    void start(int64_t layer, const FusedPlan& plan, int64_t n_tokens, const float* x, float* y);
    /// Does whatever can be done without waiting.
    void progress();
    /// progress(), unless it was called a moment ago: for calls from between the tiles of products.
    void progress_rarely();
    bool is_finished() const;
    /// Seconds from start() to the last chunk of another node that was sent without waiting for a slot; 0
    /// until one has come.
    double arrival_s() const { return arrival_s_; }

    int64_t bytes_sent() const { return bytes_sent_; }

  private:
    enum class Kind : uint8_t { tokens_out, tokens_in, sums_out, sums_in };
    struct Pending {
        Kind kind;
        int node;
        int64_t chunk;
    };
    struct Outgoing {
        int64_t n_chunks = 0;
        int64_t next_chunk = 0;
        std::vector<uint8_t> n_open;  // [n_slots], messages of the slot's chunk under way: there, and back
    };
    struct Incoming {
        int64_t n_chunks = -1;  // unknown until the first has come
        int64_t next_receive = 0;
        int64_t next_sum = 0;
    };

    void send_tokens(int node);
    void post_receives(int node);
    void offer_own_chunks();
    void publish(int source, int64_t chunk);
    void add_ready_sums(int source);
    void return_sums(int source, int64_t chunk);
    void complete(const Pending& pending);
    void test_requests();
    void deliver(int node, int64_t chunk);
    void finish_token(int64_t token);

    Range chunk_range(int node, int64_t chunk) const;
    float* returned_rows(int node, int64_t chunk);
    std::byte* out_buffer(int node, int64_t chunk);
    std::byte* staged_sums(int node, int64_t chunk);
    int slot_of(int64_t chunk) const { return static_cast<int>(chunk % layout_.n_slots); }
    MPI_Request& add_request(Kind kind, int node, int64_t chunk);

    const ExchangeSetup& setup_;
    const FusedLayout& layout_;
    const SharedSegments& memory_;
    Communicator lane_;
    int node_;
    int rank_;
    std::byte* own_segment_;

    int64_t layer_ = 0;
    const FusedPlan* plan_ = nullptr;
    const float* x_ = nullptr;
    float* y_ = nullptr;
    std::vector<Outgoing> outgoing_;  // [n_nodes], of this one too: chunks of the own block
    std::vector<Incoming> incoming_;  // [n_nodes]
    std::vector<int32_t> n_missing_;  // [n_tokens], rows that have not come back
    int64_t n_tokens_left_ = 0;

    std::vector<std::byte> out_buffers_;  // [n_nodes, n_slots, slot_bytes]
    std::vector<float> returned_;         // [rows of all nodes, hidden_size]
    std::vector<std::byte> staged_;       // the same as they travel, unless that is f32
    std::vector<float> sum_;              // [chunk_rows, hidden_size]
    std::vector<const float*> parts_;
    std::vector<MPI_Request> requests_;
    std::vector<Pending> pendings_;  // of each request
    std::vector<int> completed_;
    bool is_in_progress_ = false;
    double begin_s_ = 0;
    double arrival_s_ = 0;
    double last_progress_s_ = 0;
    int64_t bytes_sent_ = 0;
};

}  // namespace mixserve::comm
