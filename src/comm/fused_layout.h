#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "comm/exchange.h"

namespace mixserve::comm {

/// A chunk of a block of tokens, as it travels: this header, then
///   gate weights f32 [n_entries], experts u16 [n_entries] (counted from the node's first), entries of each
///   row u16 [n_rows],
/// then, 64-byte aligned, the rows as the wire type has them. Row r's entries follow those of row r - 1.
struct alignas(64) ChunkHeader {
    int32_t n_rows;
    int32_t n_entries;
    int32_t n_chunks;  // of the block; at least 1, since a block without tokens is one chunk without rows
    int32_t n_bytes;   // of the whole message
};

/// Where the parts of a chunk lie in its message.
struct ChunkView {
    std::byte* message;
    ChunkHeader& header() const { return *reinterpret_cast<ChunkHeader*>(message); }
    float* weights() const { return reinterpret_cast<float*>(message + sizeof(ChunkHeader)); }
    uint16_t* experts() const { return reinterpret_cast<uint16_t*>(weights() + header().n_entries); }
    uint16_t* row_entries() const { return experts() + header().n_entries; }
    std::byte* rows() const;
};

/// State of a slot, in the shared memory of the rank whose lane the chunk came through.
struct alignas(64) SlotState {
    std::atomic<uint64_t> ready;   // the chunk that lies in it, as sequence_number(); set by the lane's rank
    std::atomic<uint32_t> n_done;  // ranks of the node that have stored their partial sums of it
};

/// Sizes and places in the memory that the ranks of a node share. Each rank has, for each source node, a ring
/// of slots for chunks that arrive through its lane, and a place for its partial sums of every slot of every
/// lane. Chunk c of a block uses slot c mod n_slots. The size is independent of the number of tokens: a
/// larger block uses the ring again.
struct FusedLayout {
    int n_nodes;
    int ranks_per_node;
    int64_t hidden_size;
    int64_t k;
    WireType wire_type;
    int64_t chunk_rows;  // at most, of a chunk
    int n_slots;
    int64_t slot_bytes;  // of a message, at most

    FusedLayout(const ExchangeSetup& setup, int64_t k);

    int64_t n_chunks(int64_t n_rows) const {
        return n_rows == 0 ? 1 : (n_rows + chunk_rows - 1) / chunk_rows;
    }
    int64_t row_bytes() const;
    /// Bytes of a message up to its rows.
    static int64_t rows_offset(int64_t n_rows, int64_t n_entries);

    int64_t total_bytes() const { return partials_offset() + partials_bytes(); }
    SlotState* state(std::byte* segment, int source, int slot) const;
    ChunkView message(std::byte* segment, int source, int slot) const;
    /// The rows of a slot as f32: in the message itself where the wire carries f32.
    float* tokens(std::byte* segment, int source, int slot) const;
    float* partials(std::byte* segment, int lane, int source, int slot) const;

  private:
    int64_t index(int source, int slot) const { return int64_t{source} * n_slots + slot; }
    int64_t row_block_bytes() const;
    int64_t messages_offset() const;
    int64_t decoded_offset() const;
    int64_t partials_offset() const;
    int64_t partials_bytes() const;
};

/// Names chunk `chunk` of the `layer`-th layer (from 1) uniquely in time.
constexpr uint64_t sequence_number(int64_t layer, int64_t chunk) {
    return static_cast<uint64_t>(layer) << 24 | static_cast<uint64_t>(chunk + 1);
}

}  // namespace mixserve::comm
