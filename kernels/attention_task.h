#pragma once

#include <cstdint>
#include <span>

#include "base/partition.h"
#include "kernels/attention.h"

namespace mixserve::kernels {

/// Positions whose softmax is taken together: chunks begin at its multiples.
constexpr int64_t attention_chunk = 64;
/// Rows that share what is loaded of a chunk.
constexpr int64_t attention_rows = 96;

/// Some rows of one sequence on one KV head. A row is a (token, query head) pair: token r / heads.size() of
/// the sequence's tokens in this step, head heads[r % heads.size()].
struct AttentionTask {
    const float* q = nullptr;  // of the sequence's first token
    float* out = nullptr;      // likewise
    int64_t q_stride = 0;
    int64_t out_stride = 0;
    std::span<const int32_t> heads;  // that read the KV head
    int64_t kv_head = 0;
    int64_t begin_row = 0;
    int64_t end_row = 0;
    int64_t first_position = 0;
    const int32_t* block_table = nullptr;
    const KvCache* cache = nullptr;
    float scale = 1.0f;
    int64_t sliding_window = 0;

    /// A measure of its work.
    int64_t n_products() const {
        return (end_row - begin_row) * (first_position + end_row / static_cast<int64_t>(heads.size()));
    }
};

}  // namespace mixserve::kernels
