#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "device/stream.h"
#include "kernels/cuda/attention_plan.h"

namespace mixserve::kernels {

/// One layer's KV cache of one rank, in blocks of `block_size` positions; f32 or bf16.
///   keys, values [n_blocks, n_kv_heads, block_size, head_dim]
struct KvCache {
    void* keys = nullptr;
    void* values = nullptr;
    DType dtype = DType::f32;
    int64_t block_size = 0;
    int64_t n_kv_heads = 0;
    int64_t head_dim = 0;
};

/// The tokens of one sequence in a step: rows [first_row, first_row + n_tokens) of the batch are its
/// positions [first_position, first_position + n_tokens). Position p lies in block block_table[p /
/// block_size].
struct SequenceRows {
    int64_t first_row = 0;
    int64_t n_tokens = 0;
    int64_t first_position = 0;
    const int32_t* block_table = nullptr;
};

/// What attention needs to know of a step, the same for all layers: made once a step. Borrows the spans, and
/// on a GPU holds what was uploaded of them, until the stream's next plan.
struct AttentionBatch {
    std::span<const SequenceRows> sequences;
    std::span<const int32_t> kv_head_of;  // query head h reads KV head kv_head_of[h]
    cuda::AttentionPlan plan;
};

/// `cache`: any of the layers'; they have the same shape. `n_padded_rows` above 0, on a GPU: makes a plan
/// that serves as many rows, for steps that are recorded and replayed (AttentionPlan::sizes). Rows past the
/// sequences' are not stored, and what `out` holds for them stays.
AttentionBatch plan_attention(std::span<const SequenceRows> sequences, std::span<const int32_t> kv_head_of,
                              const KvCache& cache, device::Stream& stream, int64_t n_padded_rows = 0);

/// Writes keys and values [n_rows, n_kv_heads * head_dim] (row stride `stride`) into the cache.
void store_kv(const float* keys, const float* values, int64_t stride, const AttentionBatch& batch,
              const KvCache& cache, device::Stream& stream);

/// Causal attention of each row over the cache of its own sequence, its own position included (store_kv comes
/// first).
///   q   [n_rows, n_heads * head_dim] (row stride `q_stride`), n_heads = batch.kv_head_of.size()
///   out [n_rows, n_heads * head_dim] contiguous
/// `sliding_window` w > 0: a position sees itself and the w - 1 before it; 0: all.
/// On the CPU: online softmax over chunks of the context that begin at fixed positions, merged in rising
/// order: a row's bits depend on its query and its context only, not on the batch, the chunking of the
/// prefill or the threads.
void paged_attention(const float* q, int64_t q_stride, float scale, int64_t sliding_window,
                     const AttentionBatch& batch, const KvCache& cache, float* out, device::Stream& stream);

// The same two for a single use, without a plan of one's own.
void store_kv(const float* keys, const float* values, int64_t stride, std::span<const SequenceRows> sequences,
              const KvCache& cache, device::Stream& stream);
void paged_attention(const float* q, int64_t q_stride, int64_t n_heads, std::span<const int32_t> kv_head_of,
                     float scale, int64_t sliding_window, std::span<const SequenceRows> sequences,
                     const KvCache& cache, float* out, device::Stream& stream);

}  // namespace mixserve::kernels
