#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#define HWY_TARGET_INCLUDE "kernels/attention.cpp"
// clang-format off: this one has to come first
#include <hwy/foreach_target.h>
// clang-format on
#include <hwy/contrib/math/math-inl.h>

#include "kernels/attention_chunk-inl.h"
#include "kernels/attention_task.h"
#include "kernels/cuda/launch.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

constexpr int64_t round_up_to_panel(int64_t n) {
    return (n + panel_width - 1) / panel_width * panel_width;
}

/// The scratch of one task, cut up. Rows are (token, query head) pairs in tiles of up to max_tile_rows.
struct AttentionScratch {
    float* q;        // [rows, head_dim], each tile packed, scaled
    float* scores;   // [rows, attention_chunk]; then the weights
    float* sums;     // [rows, 16] of the weights, by position modulo 16
    float* out;      // [rows, padded head_dim] weighted values
    float* keys;     // [attention_chunk / panel_width] panels [head_dim][panel_width]
    float* values;   // [padded head_dim / panel_width] panels [attention_chunk][panel_width]
    float* largest;  // [rows] scores so far
    float* decay;    // [rows] what the chunk multiplies earlier sums with
};

int64_t AttentionScratchBytes(int64_t head_dim) {
    const int64_t padded = round_up_to_panel(head_dim);
    const int64_t floats = attention_rows * (head_dim + attention_chunk + 16 + padded + 2) +
                           attention_chunk * (head_dim + padded);
    return floats * static_cast<int64_t>(sizeof(float)) + 8 * 64;
}

AttentionScratch cut_scratch(std::byte* memory, int64_t head_dim) {
    const int64_t padded = round_up_to_panel(head_dim);
    const auto take = [&](int64_t n_floats) {
        auto* part = reinterpret_cast<float*>(memory);
        memory += (n_floats * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
        return part;
    };
    AttentionScratch s;
    s.q = take(attention_rows * head_dim);
    s.scores = take(attention_rows * attention_chunk);
    s.sums = take(attention_rows * 16);
    s.out = take(attention_rows * padded);
    s.keys = take(attention_chunk * head_dim);
    s.values = take(attention_chunk * padded);
    s.largest = take(attention_rows);
    s.decay = take(attention_rows);
    return s;
}

/// scores[m][j] = sum over d of q[m][d] * key[j][d], one chain in rising d.
template <int Rows>
void ScoreTile(const float* HWY_RESTRICT q, const float* HWY_RESTRICT panel, int64_t head_dim,
               float* HWY_RESTRICT scores) {
    Vf sums[Rows][2];
    sum_panel<Rows>(q, 1, Rows, panel, head_dim, sums);
    for (int m = 0; m < Rows; ++m) {
        hn::StoreU(sums[m][0], Floats(), scores + m * attention_chunk);
        hn::StoreU(sums[m][1], Floats(), scores + m * attention_chunk + lanes);
    }
}

/// out[m] = out[m] * decay[m] + sum over the chunk's positions j of weights[m][j] * value[j], one chain in
/// rising j.
template <int Rows>
void ValueTile(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT panel, int64_t n_positions,
               const float* HWY_RESTRICT decay, float* HWY_RESTRICT out, int64_t out_stride) {
    const Floats f;
    Vf sums[Rows][2];
    sum_panel<Rows>(weights, attention_chunk, 1, panel, n_positions, sums);
    for (int m = 0; m < Rows; ++m) {
        const Vf factor = hn::Set(f, decay[m]);
        float* row = out + m * out_stride;
        hn::StoreU(hn::MulAdd(hn::LoadU(f, row), factor, sums[m][0]), f, row);
        hn::StoreU(hn::MulAdd(hn::LoadU(f, row + lanes), factor, sums[m][1]), f, row + lanes);
    }
}

using ScoreFunction = void (*)(const float*, const float*, int64_t, float*);
using ValueFunction = void (*)(const float*, const float*, int64_t, const float*, float*, int64_t);

template <int... Index>
ScoreFunction score_function(int64_t n_rows, std::integer_sequence<int, Index...>) {
    static constexpr ScoreFunction functions[] = {ScoreTile<Index + 1>...};
    return functions[n_rows - 1];
}

template <int... Index>
ValueFunction value_function(int64_t n_rows, std::integer_sequence<int, Index...>) {
    static constexpr ValueFunction functions[] = {ValueTile<Index + 1>...};
    return functions[n_rows - 1];
}

constexpr auto tile_rows = std::make_integer_sequence<int, max_tile_rows>();

using DirectScoreFunction = void (*)(const ChunkRows&, const ChunkRows&, const float*, int64_t, float*);
using DirectValueFunction = void (*)(const ChunkRows&, const ChunkRows&, const float*, const float*, int64_t,
                                     float*, int64_t);

/// Up to this many rows, keys and values are used where they lie.
constexpr int64_t max_direct_rows = 4;

/// Scores of a row to weights exp(score - largest so far), zero outside positions [begin, end) of the chunk.
void Softmax(float* HWY_RESTRICT scores, int64_t n, int64_t begin, int64_t end, float& largest, float& decay,
             float* HWY_RESTRICT sums) {
    const Floats f;
    const hn::RebindToSigned<Floats> i32;
    const Vf hidden = hn::Set(f, -std::numeric_limits<float>::infinity());
    const auto first = hn::Set(i32, static_cast<int32_t>(begin));
    const auto last = hn::Set(i32, static_cast<int32_t>(end - 1));
    Vf best = hidden;
    for (int64_t j = 0; j < n; j += lanes) {
        const auto index = hn::Iota(i32, static_cast<int32_t>(j));
        const auto outside = hn::Or(hn::Lt(index, first), hn::Gt(index, last));
        const Vf score = hn::IfThenElse(hn::RebindMask(f, outside), hidden, hn::LoadU(f, scores + j));
        hn::StoreU(score, f, scores + j);
        best = hn::Max(best, score);
    }
    const float now = std::max(largest, hn::GetLane(hn::MaxOfLanes(f, best)));
    const Vf base = hn::Set(f, now);
    const Vf factor = hn::Exp(f, hn::Set(f, largest - now));
    decay = hn::GetLane(factor);
    largest = now;
    for (int64_t i = 0; i < 16; i += lanes)
        hn::StoreU(hn::Mul(hn::LoadU(f, sums + i), factor), f, sums + i);
    for (int64_t j = 0; j < n; j += lanes) {
        const Vf weight = hn::Exp(f, hn::Sub(hn::LoadU(f, scores + j), base));
        hn::StoreU(weight, f, scores + j);
        float* sum = sums + j % 16;
        hn::StoreU(hn::Add(hn::LoadU(f, sum), weight), f, sum);
    }
}

float sum_of_16(const float* values) {
    float chains[16];
    std::copy_n(values, 16, chains);
    for (int half = 8; half > 0; half /= 2) {
        for (int j = 0; j < half; ++j)
            chains[j] += chains[j + half];
    }
    return chains[0];
}

template <class Stored>
void Attend(const AttentionTask& task, const AttentionScratch& s) {
    const int64_t head_dim = task.cache->head_dim;
    const int64_t padded = round_up_to_panel(head_dim);
    const int64_t n_rows = task.end_row - task.begin_row;
    const int64_t n_heads = static_cast<int64_t>(task.heads.size());
    const int64_t n_tiles = (n_rows + max_tile_rows - 1) / max_tile_rows;
    const auto token_of = [&](int64_t row) { return (task.begin_row + row) / n_heads; };
    const auto head_of = [&](int64_t row) {
        return task.heads[static_cast<size_t>((task.begin_row + row) % n_heads)];
    };
    const auto position_of = [&](int64_t row) { return task.first_position + token_of(row); };
    const auto begin_of = [&](int64_t row) {
        return task.sliding_window > 0 ? std::max<int64_t>(0, position_of(row) - task.sliding_window + 1) : 0;
    };

    for (int64_t t = 0; t < n_tiles; ++t) {
        const Range rows = partition(n_rows, n_tiles, t);
        for (int64_t m = 0; m < rows.size(); ++m) {
            const int64_t row = rows.begin + m;
            const float* q = task.q + token_of(row) * task.q_stride + head_of(row) * head_dim;
            for (int64_t d = 0; d < head_dim; ++d)
                s.q[rows.begin * head_dim + d * rows.size() + m] = q[d] * task.scale;
        }
    }
    std::fill_n(s.sums, n_rows * 16, 0.0f);
    std::fill_n(s.out, n_rows * padded, 0.0f);
    std::fill_n(s.largest, n_rows,
                -1e30f);  // below every score, and finite: no inf - inf before the first position

    static constexpr DirectScoreFunction direct_scores[max_direct_rows] = {
        DirectScores<Stored, 1>, DirectScores<Stored, 2>, DirectScores<Stored, 3>, DirectScores<Stored, 4>};
    static constexpr DirectValueFunction direct_values[max_direct_rows] = {
        DirectValues<Stored, 1>, DirectValues<Stored, 2>, DirectValues<Stored, 3>, DirectValues<Stored, 4>};
    const bool direct = n_rows <= max_direct_rows;
    ChunkRows chunk;
    ChunkRows next;

    const int64_t end = position_of(n_rows - 1) + 1;
    const int64_t begin = begin_of(0) / attention_chunk * attention_chunk;
    FindChunk<Stored>(task, begin, end, next);
    for (int64_t first = begin; first < end; first += attention_chunk) {
        chunk = next;
        FindChunk<Stored>(task, first + attention_chunk, end, next);
        const int64_t n = chunk.n;
        if (!direct) FillPanels<Stored>(chunk, head_dim, s.keys, s.values);
        for (int64_t t = 0; t < n_tiles; ++t) {
            const Range rows = partition(n_rows, n_tiles, t);
            if (position_of(rows.end - 1) < first) continue;
            float* scores = s.scores + rows.begin * attention_chunk;
            if (direct) {
                direct_scores[n_rows - 1](chunk, next, s.q, head_dim, scores);
            } else {
                for (int64_t j = 0; j < n; j += panel_width)
                    score_function(rows.size(), tile_rows)(s.q + rows.begin * head_dim, s.keys + j * head_dim,
                                                           head_dim, scores + j);
            }
            for (int64_t row = rows.begin; row < rows.end; ++row) {
                Softmax(s.scores + row * attention_chunk, n, std::max<int64_t>(0, begin_of(row) - first),
                        std::min(n, position_of(row) + 1 - first), s.largest[row], s.decay[row],
                        s.sums + row * 16);
            }
            if (direct) {
                direct_values[n_rows - 1](chunk, next, scores, s.decay, head_dim, s.out, padded);
            } else {
                for (int64_t d = 0; d < head_dim; d += panel_width)
                    value_function(rows.size(), tile_rows)(scores, s.values + d * attention_chunk, n,
                                                           s.decay + rows.begin,
                                                           s.out + rows.begin * padded + d, padded);
            }
        }
    }

    for (int64_t row = 0; row < n_rows; ++row) {
        const float inverse = 1.0f / sum_of_16(s.sums + row * 16);
        float* out = task.out + token_of(row) * task.out_stride + head_of(row) * head_dim;
        for (int64_t d = 0; d < head_dim; ++d)
            out[d] = s.out[row * padded + d] * inverse;
    }
}

void RunAttentionTask(const AttentionTask& task, std::byte* scratch) {
    const AttentionScratch s = cut_scratch(scratch, task.cache->head_dim);
    switch (task.cache->dtype) {
        case DType::f32:
            return Attend<StoredF32>(task, s);
        case DType::bf16:
            return Attend<StoredBf16>(task, s);
        case DType::f16:
            return Attend<StoredF16>(task, s);
    }
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mixserve::kernels {

HWY_EXPORT(AttentionScratchBytes);
HWY_EXPORT(RunAttentionTask);

namespace {

/// The query heads that read each KV head.
std::vector<std::vector<int32_t>> group_heads(std::span<const int32_t> kv_head_of, int64_t n_kv_heads) {
    std::vector<std::vector<int32_t>> groups(static_cast<size_t>(n_kv_heads));
    for (size_t head = 0; head < kv_head_of.size(); ++head)
        groups[static_cast<size_t>(kv_head_of[head])].push_back(static_cast<int32_t>(head));
    return groups;
}

void store_row(const float* values, int64_t n, DType dtype, void* cache, int64_t offset) {
    switch (dtype) {
        case DType::f32:
            std::copy_n(values, n, static_cast<float*>(cache) + offset);
            return;
        case DType::bf16:
            std::transform(values, values + n, static_cast<uint16_t*>(cache) + offset, f32_to_bf16);
            return;
        case DType::f16:
            std::transform(values, values + n, static_cast<uint16_t*>(cache) + offset, f32_to_f16);
            return;
    }
}

}  // namespace

AttentionBatch plan_attention(std::span<const SequenceRows> sequences, std::span<const int32_t> kv_head_of,
                              const KvCache& cache, device::Stream& stream, int64_t n_padded_rows) {
    AttentionBatch batch{sequences, kv_head_of, {}};
    if (stream.gpu() != nullptr)
        batch.plan = cuda::plan_attention(sequences, kv_head_of, cache, stream, n_padded_rows);
    return batch;
}

void store_kv(const float* keys, const float* values, int64_t stride, std::span<const SequenceRows> sequences,
              const KvCache& cache, device::Stream& stream) {
    store_kv(keys, values, stride, plan_attention(sequences, {}, cache, stream), cache, stream);
}

void paged_attention(const float* q, int64_t q_stride, int64_t n_heads, std::span<const int32_t> kv_head_of,
                     float scale, int64_t sliding_window, std::span<const SequenceRows> sequences,
                     const KvCache& cache, float* out, device::Stream& stream) {
    MIXSERVE_ASSERT(n_heads == static_cast<int64_t>(kv_head_of.size()));
    static_cast<void>(n_heads);
    paged_attention(q, q_stride, scale, sliding_window, plan_attention(sequences, kv_head_of, cache, stream),
                    cache, out, stream);
}

void store_kv(const float* keys, const float* values, int64_t stride, const AttentionBatch& batch,
              const KvCache& cache, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::store_kv(keys, values, stride, batch.plan, cache, stream);
    const std::span<const SequenceRows> sequences = batch.sequences;
    stream.parallel_for(static_cast<int64_t>(sequences.size()), [&](int64_t index, int) {
        const SequenceRows& sequence = sequences[static_cast<size_t>(index)];
        for (int64_t t = 0; t < sequence.n_tokens; ++t) {
            const int64_t position = sequence.first_position + t;
            const int64_t block = sequence.block_table[position / cache.block_size];
            const int64_t source = (sequence.first_row + t) * stride;
            for (int64_t head = 0; head < cache.n_kv_heads; ++head) {
                const int64_t target =
                    ((block * cache.n_kv_heads + head) * cache.block_size + position % cache.block_size) *
                    cache.head_dim;
                store_row(keys + source + head * cache.head_dim, cache.head_dim, cache.dtype, cache.keys,
                          target);
                store_row(values + source + head * cache.head_dim, cache.head_dim, cache.dtype, cache.values,
                          target);
            }
        }
    });
}

void paged_attention(const float* q, int64_t q_stride, float scale, int64_t sliding_window,
                     const AttentionBatch& batch, const KvCache& cache, float* out, device::Stream& stream) {
    const auto n_heads = static_cast<int64_t>(batch.kv_head_of.size());
    if (stream.gpu() != nullptr) {
        return cuda::paged_attention(q, q_stride, n_heads, scale, sliding_window, batch.plan, cache, out,
                                     stream);
    }
    const std::span<const SequenceRows> sequences = batch.sequences;
    const int64_t out_stride = n_heads * cache.head_dim;
    const auto groups = group_heads(batch.kv_head_of, cache.n_kv_heads);
    std::vector<AttentionTask> tasks;
    for (const SequenceRows& sequence : sequences) {
        for (int64_t kv_head = 0; kv_head < cache.n_kv_heads; ++kv_head) {
            const std::vector<int32_t>& heads = groups[static_cast<size_t>(kv_head)];
            const int64_t n_rows = sequence.n_tokens * static_cast<int64_t>(heads.size());
            for (int64_t row = 0; row < n_rows; row += attention_rows) {
                AttentionTask task;
                task.q = q + sequence.first_row * q_stride;
                task.out = out + sequence.first_row * out_stride;
                task.q_stride = q_stride;
                task.out_stride = out_stride;
                task.heads = heads;
                task.kv_head = kv_head;
                task.begin_row = row;
                task.end_row = std::min(row + attention_rows, n_rows);
                task.first_position = sequence.first_position;
                task.block_table = sequence.block_table;
                task.cache = &cache;
                task.scale = scale;
                task.sliding_window = sliding_window;
                tasks.push_back(task);
            }
        }
    }
    // Long tasks first, so that the threads end together.
    std::stable_sort(tasks.begin(), tasks.end(), [](const AttentionTask& a, const AttentionTask& b) {
        return a.n_products() > b.n_products();
    });
    const auto scratch_bytes =
        static_cast<size_t>(HWY_DYNAMIC_DISPATCH(AttentionScratchBytes)(cache.head_dim));
    stream.parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t index, int thread) {
        HWY_DYNAMIC_DISPATCH(RunAttentionTask)
        (tasks[static_cast<size_t>(index)], stream.scratch(thread, scratch_bytes));
    });
}

}  // namespace mixserve::kernels
#endif  // HWY_ONCE
