#include "comm/fused_layout.h"

#include <algorithm>

#include "kernels/wire.h"

namespace mixserve::comm {
namespace {

// Of the partial sums of all slots of a rank.
constexpr int64_t partials_budget = 64 << 20;
constexpr int64_t max_chunk_rows = 256;

constexpr int64_t align64(int64_t n) {
    return (n + 63) / 64 * 64;
}

}  // namespace

std::byte* ChunkView::rows() const {
    return message + FusedLayout::rows_offset(header().n_rows, header().n_entries);
}

FusedLayout::FusedLayout(const ExchangeSetup& setup, int64_t experts_per_token)
    : n_nodes(setup.topology.n_nodes),
      ranks_per_node(setup.topology.ranks_per_node),
      hidden_size(setup.hidden_size),
      k(experts_per_token),
      wire_type(n_nodes > 1 ? setup.wire_type : WireType::f32) {
    chunk_rows = std::clamp<int64_t>(setup.chunk_bytes / (4 * hidden_size), 1, max_chunk_rows);
    const int64_t n_rings = int64_t{n_nodes} * ranks_per_node;
    const int64_t n_affordable = std::max<int64_t>(partials_budget / (n_rings * row_block_bytes()), 2);
    n_slots = static_cast<int>(std::min<int64_t>(n_affordable, setup.max_chunks_under_way));
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
