#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "device/stream.h"

namespace mixserve::kernels {
struct SequenceRows;
struct KvCache;
}  // namespace mixserve::kernels

namespace mixserve::kernels::cuda {

/// Rows of attention that share what is read of the cache, on the ordinary cores and on the tensor cores. A
/// row is a (token, query head) pair, as in kernels/attention_task.h.
constexpr int attention_tile = 16;
constexpr int attention_tensor_tile = 64;
/// Positions of one part of the context, where it is read in parts: for sequences of at most attention_tile
/// rows, so that a long context keeps many blocks busy. Parts begin at its multiples.
constexpr int attention_part = 256;

struct PlannedSequence {
    int32_t first_row;
    int32_t n_tokens;
    int32_t first_position;
    int32_t block_table;  // where its blocks begin in `block_tables`
};

struct PlannedToken {
    int32_t sequence;  // here and in what follows, -1: padding
    int32_t index;     // among the sequence's tokens of this step
};

/// A block's work: rows [first_row, ..) of a sequence on one KV head, over one part of the context or all of
/// it.
struct AttentionItem {
    int32_t sequence;
    int32_t kv_head;
    int32_t first_row;
    int32_t part;     // -1: all of the context
    int32_t partial;  // where the part's result goes, in tiles; -1: straight to the output
};

/// Parts to be put together: those of one sequence on one KV head.
struct AttentionMerge {
    int32_t sequence;
    int32_t kv_head;
    int32_t first_partial;
    int32_t n_parts;
};

/// What attention needs to know of a step, in device memory (in the stream's slot for it, until the next
/// plan).
struct AttentionPlan {
    const PlannedSequence* sequences = nullptr;
    const PlannedToken* tokens = nullptr;
    int64_t n_tokens = 0;
    const int32_t* block_tables = nullptr;
    const int32_t* head_offsets = nullptr;  // [n_kv_heads + 1]: the query heads of each KV head ..
    const int32_t* heads = nullptr;         // .. among these
    const AttentionItem* items = nullptr;
    int64_t n_items = 0;
    const AttentionItem* tensor_items = nullptr;
    int64_t n_tensor_items = 0;
    const AttentionMerge* merges = nullptr;
    int64_t n_merges = 0;
    int64_t n_partials = 0;

    /// What, of one model and GPU, decides where a padded plan's arrays begin and which launches it takes.
    /// Few different ones come: numbers are rounded up to quarters of powers of two.
    std::array<int64_t, 4> sizes() const { return {n_tokens, n_items, n_tensor_items, n_merges}; }
};

/// The next of 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ..: four to each power of two. 0 stays.
constexpr int64_t padded_size(int64_t n) {
    int64_t unit = 1;
    while (n > 8 * unit)
        unit *= 2;
    return (n + unit - 1) / unit * unit;
}

/// Whether the tensor cores take prefills over such a cache.
bool attends_on_tensor_cores(const KvCache& cache);

/// Makes the plan on the host and uploads it. Error when a head is larger than 256. `n_padded_rows`: see
/// kernels/attention.h; at least the sequences' rows, or 0.
AttentionPlan plan_attention(std::span<const SequenceRows> sequences, std::span<const int32_t> kv_head_of,
                             const KvCache& cache, device::Stream& stream, int64_t n_padded_rows);

}  // namespace mixserve::kernels::cuda
