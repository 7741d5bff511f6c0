// How attention reads a chunk of the KV cache: into panels for many rows, or directly for a few.

#if defined(MIXSERVE_KERNELS_ATTENTION_CHUNK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIXSERVE_KERNELS_ATTENTION_CHUNK_INL_H_
#undef MIXSERVE_KERNELS_ATTENTION_CHUNK_INL_H_
#else
#define MIXSERVE_KERNELS_ATTENTION_CHUNK_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "kernels/attention_task.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

/// Where the rows of a chunk's positions lie.
struct ChunkRows {
    const uint8_t* keys[attention_chunk];
    const uint8_t* values[attention_chunk];
    int64_t n = 0;
};

/// Positions [first, min(first + attention_chunk, end)).
template <class Stored>
void FindChunk(const AttentionTask& task, int64_t first, int64_t end, ChunkRows& rows) {
    const KvCache& cache = *task.cache;
    const int64_t row_bytes = cache.head_dim * static_cast<int64_t>(sizeof(typename Stored::Bits));
    rows.n = std::clamp<int64_t>(end - first, 0, attention_chunk);
    for (int64_t i = 0; i < rows.n;) {
        const int64_t block = task.block_table[(first + i) / cache.block_size];
        const int64_t in_block = (first + i) % cache.block_size;
        const int64_t block_end = std::min(i + cache.block_size - in_block, rows.n);
        int64_t offset =
            ((block * cache.n_kv_heads + task.kv_head) * cache.block_size + in_block) * row_bytes;
        for (; i < block_end; ++i, offset += row_bytes) {
            rows.keys[i] = static_cast<const uint8_t*>(cache.keys) + offset;
            rows.values[i] = static_cast<const uint8_t*>(cache.values) + offset;
        }
    }
}

/// Fetches `n_lines` cache lines from line `first_line` of the rows [first, n), which follow each other.
HWY_INLINE void fetch_lines(const uint8_t* const* rows, int64_t n, int64_t lines_in_row, int64_t first,
                            int64_t first_line, int64_t n_lines) {
    int64_t row = first + first_line / lines_in_row;
    int64_t line = first_line % lines_in_row;
    for (int64_t i = 0; i < n_lines && row < n; ++i) {
        __builtin_prefetch(rows[row] + line * 64, 0, 2);
        if (++line == lines_in_row) {
            line = 0;
            ++row;
        }
    }
}

/// Pointers to the keys of positions [j, j + lanes) of the chunk, the last standing in for those behind it.
struct LaneKeys {
    const uint8_t* rows[lanes];
    LaneKeys(const ChunkRows& chunk, int64_t j) {
        for (int64_t lane = 0; lane < lanes; ++lane)
            rows[lane] = chunk.keys[std::min(j + lane, chunk.n - 1)];
    }
};

/// Keys and values of a chunk into panels: keys [head_dim][panel_width] for panel_width positions each,
/// values [attention_chunk][panel_width] for panel_width dimensions each.
template <class Stored>
void FillPanels(const ChunkRows& chunk, int64_t head_dim, float* key_panels, float* value_panels) {
    for (int64_t j = 0; j < chunk.n; j += lanes) {
        const LaneKeys keys(chunk, j);
        float* panel = key_panels + j / panel_width * panel_width * head_dim + j % panel_width;
        widen_rows<Stored>(keys.rows, 0, head_dim, panel, [](int64_t i, int64_t k) { return i + k; });
    }
    for (int64_t j = 0; j < chunk.n; ++j) {
        const auto* row = reinterpret_cast<const typename Stored::Bits*>(chunk.values[j]);
        for (int64_t d = 0; d < head_dim; d += panel_width) {
            widen_row<Stored>(row + d, std::min(panel_width, head_dim - d),
                              value_panels + (d * attention_chunk + j * panel_width));
        }
    }
}

/// What ScoreTile() gives, for a few rows: keys go from the cache through registers into the scores, while
/// those of the next chunk are fetched.
template <class Stored, int Rows>
void DirectScores(const ChunkRows& chunk, const ChunkRows& next, const float* HWY_RESTRICT q,
                  int64_t head_dim, float* HWY_RESTRICT scores) {
    const Floats f;
    constexpr int64_t step = columns_at_once<Stored>;
    constexpr int64_t bytes = static_cast<int64_t>(sizeof(typename Stored::Bits));
    const int64_t lines_in_row = std::max<int64_t>(head_dim * bytes / 64, 1);
    for (int64_t j = 0; j < chunk.n; j += lanes) {
        const LaneKeys keys(chunk, j);
        Vf sums[Rows];
#pragma GCC unroll 4
        for (int m = 0; m < Rows; ++m)
            sums[m] = hn::Zero(f);
        int64_t d = 0;
        for (; d + step <= head_dim; d += step) {
            constexpr int64_t n_lines = step * bytes * lanes / 64;
            fetch_lines(next.keys, next.n, lines_in_row, j, d / step * n_lines, n_lines);
            for_columns<Stored>(keys.rows, d * bytes, [&](int i, Vf key) HWY_ATTR {
#pragma GCC unroll 4
                for (int m = 0; m < Rows; ++m)
                    sums[m] = hn::MulAdd(hn::Set(f, q[(d + i) * Rows + m]), key, sums[m]);
            });
        }
        for (int m = 0; m < Rows; ++m) {
            float* row = scores + m * attention_chunk + j;
            hn::StoreU(sums[m], f, row);
            for (int64_t i = d; i < head_dim; ++i) {
                for (int64_t lane = 0; lane < lanes; ++lane) {
                    typename Stored::Bits bits;
                    std::memcpy(&bits, keys.rows[lane] + i * bytes, sizeof(bits));
                    row[lane] = multiply_add_one(q[i * Rows + m], Stored::widen(bits), row[lane]);
                }
            }
        }
    }
}

/// What ValueTile() gives, for a few rows.
template <class Stored, int Rows>
void DirectValues(const ChunkRows& chunk, const ChunkRows& next, const float* HWY_RESTRICT weights,
                  const float* HWY_RESTRICT decay, int64_t head_dim, float* HWY_RESTRICT out,
                  int64_t out_stride) {
    const Floats f;
    constexpr int n_vectors = Rows == 1 ? 8 : 4;
    int64_t d = 0;
    for (; d + n_vectors * lanes <= head_dim; d += n_vectors * lanes) {
        Vf sums[Rows][n_vectors];
#pragma GCC unroll 4
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; ++v)
                sums[m][v] = hn::Zero(f);
        }
        for (int64_t j = 0; j < chunk.n; ++j) {
            const auto* row = reinterpret_cast<const typename Stored::Bits*>(chunk.values[j]) + d;
            if (j < next.n) {
                constexpr int64_t bytes =
                    n_vectors * lanes * static_cast<int64_t>(sizeof(typename Stored::Bits));
                const uint8_t* ahead =
                    next.values[j] + d * static_cast<int64_t>(sizeof(typename Stored::Bits));
#pragma GCC unroll 8
                for (int64_t byte = 0; byte < bytes; byte += 64)
                    __builtin_prefetch(ahead + byte, 0, 2);
            }
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; ++v) {
                const Vf value = Stored::load(row + v * lanes);
#pragma GCC unroll 4
                for (int m = 0; m < Rows; ++m)
                    sums[m][v] = hn::MulAdd(hn::Set(f, weights[m * attention_chunk + j]), value, sums[m][v]);
            }
        }
        for (int m = 0; m < Rows; ++m) {
            const Vf factor = hn::Set(f, decay[m]);
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; ++v) {
                float* at = out + m * out_stride + d + v * lanes;
                hn::StoreU(hn::MulAdd(hn::LoadU(f, at), factor, sums[m][v]), f, at);
            }
        }
    }
    for (; d < head_dim; ++d) {
        for (int m = 0; m < Rows; ++m) {
            float sum = 0.0f;
            for (int64_t j = 0; j < chunk.n; ++j) {
                const auto* row = reinterpret_cast<const typename Stored::Bits*>(chunk.values[j]);
                sum = multiply_add_one(weights[m * attention_chunk + j], Stored::widen(row[d]), sum);
            }
            float& at = out[m * out_stride + d];
            at = multiply_add_one(at, decay[m], sum);
        }
    }
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
