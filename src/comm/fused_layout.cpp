#include "comm/fused_layout.h"

#include <algorithm>

#include "comm/wire.h"

namespace mixserve::comm {
namespace {

// A chunk is large enough that its messages cost little beside its bytes, and small enough that the first
// one's way and the last one's way back, which nothing hides, are short: 2 ms at 1 Gbit/s.
constexpr int64_t chunk_bytes = 256 << 10;
// Of the partial sums of all slots of a rank.
constexpr int64_t partials_budget = 64 << 20;
constexpr int min_slots = 4;
constexpr int max_slots = 32;

constexpr int64_t align64(int64_t n) {
    return (n + 63) / 64 * 64;
}

}  // namespace

std::byte* ChunkView::rows() const {
    return message + FusedLayout::rows_offset(header().n_rows, header().n_entries);
}

FusedLayout::FusedLayout(const Topology& topology, int64_t hidden, int64_t experts_per_token, WireType type)
    : n_nodes(topology.n_nodes),
      ranks_per_node(topology.ranks_per_node),
      hidden_size(hidden),
      k(experts_per_token),
      wire_type(type) {
    chunk_rows = std::clamp<int64_t>(chunk_bytes / (4 * hidden_size), 4, 256);
    const int64_t n_rings = int64_t{n_nodes} * ranks_per_node;
    n_slots = static_cast<int>(
        std::clamp<int64_t>(partials_budget / (n_rings * row_block_bytes()), min_slots, max_slots));
    slot_bytes = align64(rows_offset(chunk_rows, chunk_rows * k) + chunk_rows * row_bytes());
}

int64_t FusedLayout::row_bytes() const {
    return wire_row_bytes(wire_type, hidden_size);
}

int64_t FusedLayout::rows_offset(int64_t n_rows, int64_t n_entries) {
    return align64(static_cast<int64_t>(sizeof(ChunkHeader)) + n_entries * 6 + n_rows * 2);
}

int64_t FusedLayout::row_block_bytes() const {
    return align64(chunk_rows * hidden_size * 4);
}
int64_t FusedLayout::messages_offset() const {
    return align64(int64_t{n_nodes} * n_slots * static_cast<int64_t>(sizeof(SlotState)));
}
int64_t FusedLayout::decoded_offset() const {
    return messages_offset() + int64_t{n_nodes} * n_slots * slot_bytes;
}
int64_t FusedLayout::partials_offset() const {
    return decoded_offset() +
           (wire_type == WireType::f32 ? 0 : int64_t{n_nodes} * n_slots * row_block_bytes());
}
int64_t FusedLayout::partials_bytes() const {
    return int64_t{ranks_per_node} * n_nodes * n_slots * row_block_bytes();
}

SlotState* FusedLayout::state(std::byte* segment, int source, int slot) const {
    return reinterpret_cast<SlotState*>(segment) + index(source, slot);
}

ChunkView FusedLayout::message(std::byte* segment, int source, int slot) const {
    return {segment + messages_offset() + index(source, slot) * slot_bytes};
}

float* FusedLayout::tokens(std::byte* segment, int source, int slot) const {
    if (wire_type == WireType::f32) return reinterpret_cast<float*>(message(segment, source, slot).rows());
    return reinterpret_cast<float*>(segment + decoded_offset() + index(source, slot) * row_block_bytes());
}

float* FusedLayout::partials(std::byte* segment, int lane, int source, int slot) const {
    const int64_t ring = int64_t{lane} * n_nodes * n_slots + index(source, slot);
    return reinterpret_cast<float*>(segment + partials_offset() + ring * row_block_bytes());
}

}  // namespace mixserve::comm
