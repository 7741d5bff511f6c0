// Attention over the paged cache. Rows are (token, query head) pairs of one sequence on one KV head, so that
// what is read of the cache serves all query heads that share it. Two forms:
//  - in f32 on the ordinary cores, for any cache and head: decode, where a long context is cut into parts
//  that are put
//    together afterwards, and prefills over caches in f32;
//  - on the tensor cores for prefills over 16-bit caches with heads of 64 or 128: online softmax with the
//  weights kept
//    in registers between the two products (FlashAttention-2, Dao 2023).

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

namespace mixserve::kernels::cuda {
namespace {

using namespace mixserve::simt;

struct Attention {
    const float* q = nullptr;
    int64_t q_stride = 0;
    float scale = 1.0F;
    int64_t sliding_window = 0;
    AttentionPlan plan;
    KvCache cache;
    float* out = nullptr;
    int64_t out_stride = 0;
    // Of parts, each [attention_tile] rows.
    float* part_out = nullptr;      // [n_partials, attention_tile, head_dim], not divided by the sum
    float* part_largest = nullptr;  // [n_partials, attention_tile]
    float* part_sum = nullptr;      // [n_partials, attention_tile]
};

/// Below every score, and finite: no inf - inf before the first position.
constexpr float nothing_seen = -1e30F;

/// Where position p of a sequence begins in the cache, in elements.
__device__ __forceinline__ int64_t cache_offset(const KvCache& cache, const int32_t* table, int64_t position,
                                                int64_t kv_head) {
    const int64_t block = table[position / cache.block_size];
    return ((block * cache.n_kv_heads + kv_head) * cache.block_size + position % cache.block_size) *
           cache.head_dim;
}

/// Rows of an item.
struct ItemRows {
    PlannedSequence sequence;
    const int32_t* table;
    const int32_t* heads;  // that read the KV head
    int n_heads;
    int n_rows;  // of the sequence

    __device__ ItemRows(const AttentionPlan& plan, int32_t index, int32_t kv_head)
        : sequence(plan.sequences[index]),
          table(plan.block_tables + sequence.block_table),
          heads(plan.heads + plan.head_offsets[kv_head]),
          n_heads(plan.head_offsets[kv_head + 1] - plan.head_offsets[kv_head]),
          n_rows(sequence.n_tokens * n_heads) {}

    __device__ int64_t position_of(int row) const { return sequence.first_position + row / n_heads; }
    __device__ int64_t begin_of(int row, int64_t window) const {
        const int64_t begin = position_of(row) - window + 1;
        return window > 0 && begin > 0 ? begin : 0;
    }
    /// Where the row's values are in an array [rows of the batch, heads * head_dim].
    __device__ int64_t offset_of(int row, int64_t stride, int64_t head_dim) const {
        return (sequence.first_row + row / n_heads) * stride + heads[row % n_heads] * head_dim;
    }
};

// A block a token, a thread an element.
template <class Stored>
__global__ void store_kv_kernel(const float* keys, const float* values, int64_t stride, AttentionPlan plan,
                                KvCache cache) {
    const PlannedToken token = plan.tokens[blockIdx.x];
    if (token.sequence < 0) return;
    const PlannedSequence sequence = plan.sequences[token.sequence];
    const int64_t from = (sequence.first_row + token.index) * stride;
    const int64_t position = sequence.first_position + token.index;
    const int32_t* table = plan.block_tables + sequence.block_table;
    for (int64_t i = threadIdx.x; i < cache.n_kv_heads * cache.head_dim; i += blockDim.x) {
        const int64_t at = cache_offset(cache, table, position, i / cache.head_dim) + i % cache.head_dim;
        static_cast<typename Stored::Bits*>(cache.keys)[at] = Stored::narrow(keys[from + i]);
        static_cast<typename Stored::Bits*>(cache.values)[at] = Stored::narrow(values[from + i]);
    }
}

// ---- ordinary cores ----

constexpr int wide_threads = 128;
constexpr int wide_warps = wide_threads / warp_size;
constexpr int wide_positions = 32;  // a lane each
constexpr int own_rows = attention_tile / wide_warps;
constexpr int max_own_dims = 8;  // of a lane: heads up to 256

// Row w + wide_warps * i of the tile is warp w's i-th.
template <class Stored>
__global__ void __launch_bounds__(wide_threads) wide_attention_kernel(const __grid_constant__ Attention a) {
    using Bits = typename Stored::Bits;
    const AttentionItem item = a.plan.items[blockIdx.x];
    if (item.sequence < 0) return;
    const ItemRows rows(a.plan, item.sequence, item.kv_head);
    const int dim = static_cast<int>(a.cache.head_dim);
    const int thread = static_cast<int>(threadIdx.x);
    const int warp = thread / warp_size;
    const int lane = thread % warp_size;
    const int n_tile_rows =
        rows.n_rows - item.first_row < attention_tile ? rows.n_rows - item.first_row : attention_tile;
    const int last_row = item.first_row + n_tile_rows - 1;

    float* q = shared_memory<float>();                  // [attention_tile][dim], scaled
    float* keys = q + attention_tile * dim;             // [wide_positions][dim + 1]
    float* values = keys + wide_positions * (dim + 1);  // [wide_positions][dim]
    float* weights = values + wide_positions * dim;     // [attention_tile][wide_positions]

    for (int i = thread; i < n_tile_rows * dim; i += wide_threads)
        q[i] = a.q[rows.offset_of(item.first_row + i / dim, a.q_stride, dim) + i % dim] * a.scale;

    int64_t end = rows.position_of(last_row) + 1;
    int64_t begin = rows.begin_of(item.first_row, a.sliding_window) / wide_positions * wide_positions;
    if (item.part >= 0) {
        const int64_t part_begin = static_cast<int64_t>(item.part) * attention_part;
        begin = begin > part_begin ? begin : part_begin;
        end = end < part_begin + attention_part ? end : part_begin + attention_part;
    }
    float largest[own_rows];
    float sums[own_rows];
    float out[own_rows][max_own_dims];
#pragma unroll
    for (int i = 0; i < own_rows; ++i) {
        largest[i] = nothing_seen;
        sums[i] = 0.0F;
#pragma unroll
        for (int d = 0; d < max_own_dims; ++d)
            out[i][d] = 0.0F;
    }
    for (int64_t first = begin; first < end; first += wide_positions) {
        const int n = end - first < wide_positions ? static_cast<int>(end - first) : wide_positions;
        __syncthreads();  // q is there; the chunk before has been used
        for (int i = thread; i < wide_positions * dim; i += wide_threads) {
            const int j = i / dim;
            const int d = i % dim;
            float key = 0.0F;
            float value = 0.0F;
            if (j < n) {
                const int64_t at = cache_offset(a.cache, rows.table, first + j, item.kv_head) + d;
                key = Stored::widen(static_cast<const Bits*>(a.cache.keys)[at]);
                value = Stored::widen(static_cast<const Bits*>(a.cache.values)[at]);
            }
            keys[j * (dim + 1) + d] = key;
            values[j * dim + d] = value;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < own_rows; ++i) {
            const int tile_row = warp + wide_warps * i;
            if (tile_row >= n_tile_rows) continue;  // the whole warp alike
            const int row = item.first_row + tile_row;
            float score = 0.0F;
            for (int d = 0; d < dim; ++d)
                score = fmaf(q[tile_row * dim + d], keys[lane * (dim + 1) + d], score);
            const int64_t position = first + lane;
            const bool sees = lane < n && position <= rows.position_of(row) &&
                              position >= rows.begin_of(row, a.sliding_window);
            const float now = fmaxf(largest[i], warp_max(sees ? score : nothing_seen));
            const float decay = expf(largest[i] - now);
            const float weight = sees ? expf(score - now) : 0.0F;
            largest[i] = now;
            sums[i] = sums[i] * decay + warp_sum(weight);
            weights[tile_row * wide_positions + lane] = weight;
            __syncwarp();
#pragma unroll
            for (int o = 0; o < max_own_dims; ++o) {
                const int d = lane + warp_size * o;
                if (d >= dim) continue;
                float sum = out[i][o] * decay;
                for (int j = 0; j < n; ++j)
                    sum = fmaf(weights[tile_row * wide_positions + j], values[j * dim + d], sum);
                out[i][o] = sum;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < own_rows; ++i) {
        const int tile_row = warp + wide_warps * i;
        if (tile_row >= n_tile_rows) continue;
        const int64_t part_row = static_cast<int64_t>(item.partial) * attention_tile + tile_row;
        float* target = item.partial >= 0
                            ? a.part_out + part_row * dim
                            : a.out + rows.offset_of(item.first_row + tile_row, a.out_stride, dim);
        const float factor = item.partial >= 0 ? 1.0F : 1.0F / sums[i];
        if (item.partial >= 0 && lane == 0) {
            a.part_largest[part_row] = largest[i];
            a.part_sum[part_row] = sums[i];
        }
#pragma unroll
        for (int o = 0; o < max_own_dims; ++o) {
            const int d = lane + warp_size * o;
            if (d < dim) target[d] = out[i][o] * factor;
        }
    }
}

// A block a sequence and KV head: the parts of each row, in rising order.
__global__ void merge_kernel(const __grid_constant__ Attention a) {
    const AttentionMerge merge = a.plan.merges[blockIdx.x];
    if (merge.sequence < 0) return;
    const ItemRows rows(a.plan, merge.sequence, merge.kv_head);
    const int dim = static_cast<int>(a.cache.head_dim);
    for (int i = static_cast<int>(threadIdx.x); i < rows.n_rows * dim; i += static_cast<int>(blockDim.x)) {
        const int row = i / dim;
        const int d = i % dim;
        float largest = nothing_seen;
        for (int part = 0; part < merge.n_parts; ++part)
            largest = fmaxf(largest, a.part_largest[(merge.first_partial + part) * attention_tile + row]);
        float sum = 0.0F;
        float value = 0.0F;
        for (int part = 0; part < merge.n_parts; ++part) {
            const int64_t at = static_cast<int64_t>(merge.first_partial + part) * attention_tile + row;
            const float factor = expf(a.part_largest[at] - largest);
            sum = fmaf(a.part_sum[at], factor, sum);
            value = fmaf(a.part_out[at * dim + d], factor, value);
        }
        a.out[rows.offset_of(row, a.out_stride, dim) + d] = value / sum;
    }
}

// ---- tensor cores ----

constexpr int tensor_warps = 4;
constexpr int tensor_threads = tensor_warps * warp_size;
constexpr int tensor_positions = 64;
static_assert(attention_tensor_tile == tensor_warps * 16);

template <int Dim>
constexpr int padded_dim = Dim + 8;  // rows of 16-byte pieces in different banks
template <int Dim>
constexpr size_t tensor_shared_bytes = size_t{2} * 2 * tensor_positions* padded_dim<Dim>;

template <class Stored>
__device__ __forceinline__ uint32_t pack(float low, float high) {
    return static_cast<uint32_t>(Stored::narrow(low)) | static_cast<uint32_t>(Stored::narrow(high)) << 16;
}

/// The largest, or the sum, over the four lanes that share a row of a tile.
__device__ __forceinline__ float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(all_lanes, value, 1));
    return fmaxf(value, __shfl_xor_sync(all_lanes, value, 2));
}
__device__ __forceinline__ float row_sum(float value) {
    value += __shfl_xor_sync(all_lanes, value, 1);
    return value + __shfl_xor_sync(all_lanes, value, 2);
}

// 64 rows a block, 16 a warp.
template <class Stored, int Dim>
__global__ void __launch_bounds__(tensor_threads)
    tensor_attention_kernel(const __grid_constant__ Attention a) {
    const AttentionItem item = a.plan.tensor_items[blockIdx.x];
    if (item.sequence < 0) return;
    const ItemRows rows(a.plan, item.sequence, item.kv_head);
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % warp_size;
    const int own_row = item.first_row + thread / warp_size * 16 + lane / 4;  // and the one 8 further
    const int block_end = item.first_row + attention_tensor_tile < rows.n_rows
                              ? item.first_row + attention_tensor_tile
                              : rows.n_rows;
    uint16_t* keys = shared_memory<uint16_t>();                    // [tensor_positions][padded_dim]
    uint16_t* values = keys + tensor_positions * padded_dim<Dim>;  // likewise

    uint32_t q[Dim / 16][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = own_row + 8 * half;
        const bool has = row < block_end;
        const float* from = a.q + (has ? rows.offset_of(row, a.q_stride, Dim) : 0) + lane % 4 * 2;
#pragma unroll
        for (int k = 0; k < Dim / 16; ++k) {
#pragma unroll
            for (int right = 0; right < 2; ++right) {
                const int at = k * 16 + right * 8;
                q[k][half + 2 * right] = has ? pack<Stored>(from[at] * a.scale, from[at + 1] * a.scale) : 0U;
            }
        }
    }
    float out[Dim / 8][4] = {};
    float largest[2] = {nothing_seen, nothing_seen};
    float sums[2] = {0.0F, 0.0F};

    const int64_t end = rows.position_of(block_end - 1) + 1;
    const int64_t begin =
        rows.begin_of(item.first_row, a.sliding_window) / tensor_positions * tensor_positions;
    for (int64_t first = begin; first < end; first += tensor_positions) {
        __syncthreads();  // the chunk before has been used
        constexpr int pieces = Dim / 8;
        for (int i = thread; i < tensor_positions * pieces; i += tensor_threads) {
            const int j = i / pieces;
            const int piece = i % pieces * 8;
            const bool has = first + j < end;
            const int64_t at = has ? cache_offset(a.cache, rows.table, first + j, item.kv_head) + piece : 0;
            copy_16_async(keys + j * padded_dim<Dim> + piece, static_cast<const uint16_t*>(a.cache.keys) + at,
                          has);
            copy_16_async(values + j * padded_dim<Dim> + piece,
                          static_cast<const uint16_t*>(a.cache.values) + at, has);
        }
        close_copies();
        wait_for_copies<0>();
        __syncthreads();

        float scores[tensor_positions / 8][4] = {};
#pragma unroll
        for (int k = 0; k < Dim / 16; ++k) {
#pragma unroll
            for (int j = 0; j < tensor_positions / 8; j += 2) {
                uint32_t r[4];
                load_matrices(
                    r, keys + ((j + lane / 16) * 8 + lane % 8) * padded_dim<Dim> + k * 16 + lane / 8 % 2 * 8);
                multiply_tile<Stored::is_bf16>(scores[j], q[k], r[0], r[1]);
                multiply_tile<Stored::is_bf16>(scores[j + 1], q[k], r[2], r[3]);
            }
        }
        float decay[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            // Rows past the last one see what it sees; they are not stored.
            const int row = own_row + 8 * half < block_end ? own_row + 8 * half : block_end - 1;
            const int64_t row_end = rows.position_of(row) + 1;
            const int64_t row_begin = rows.begin_of(row, a.sliding_window);
            float now = largest[half];
#pragma unroll
            for (int j = 0; j < tensor_positions / 8; ++j) {
#pragma unroll
                for (int c = 2 * half; c < 2 * half + 2; ++c) {
                    const int64_t position = first + j * 8 + lane % 4 * 2 + c % 2;
                    if (position >= row_begin && position < row_end) now = fmaxf(now, scores[j][c]);
                }
            }
            now = row_max(now);
            decay[half] = expf(largest[half] - now);
            largest[half] = now;
            float sum = 0.0F;
#pragma unroll
            for (int j = 0; j < tensor_positions / 8; ++j) {
#pragma unroll
                for (int c = 2 * half; c < 2 * half + 2; ++c) {
                    const int64_t position = first + j * 8 + lane % 4 * 2 + c % 2;
                    const bool sees = position >= row_begin && position < row_end;
                    const float weight = sees ? fast_exp(scores[j][c] - now) : 0.0F;
                    scores[j][c] = weight;
                    sum += weight;
                }
            }
            sums[half] = sums[half] * decay[half] + row_sum(sum);
        }
#pragma unroll
        for (int d = 0; d < Dim / 8; ++d) {
            out[d][0] *= decay[0];
            out[d][1] *= decay[0];
            out[d][2] *= decay[1];
            out[d][3] *= decay[1];
        }
#pragma unroll
        for (int k = 0; k < tensor_positions / 16; ++k) {
            const uint32_t weights[4] = {pack<Stored>(scores[2 * k][0], scores[2 * k][1]),
                                         pack<Stored>(scores[2 * k][2], scores[2 * k][3]),
                                         pack<Stored>(scores[2 * k + 1][0], scores[2 * k + 1][1]),
                                         pack<Stored>(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
            for (int d = 0; d < Dim / 8; d += 2) {
                uint32_t r[4];
                load_matrices_transposed(
                    r,
                    values + (k * 16 + lane / 8 % 2 * 8 + lane % 8) * padded_dim<Dim> + (d + lane / 16) * 8);
                multiply_tile<Stored::is_bf16>(out[d], weights, r[0], r[1]);
                multiply_tile<Stored::is_bf16>(out[d + 1], weights, r[2], r[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = own_row + 8 * half;
        if (row >= block_end) continue;
        float* target = a.out + rows.offset_of(row, a.out_stride, Dim) + lane % 4 * 2;
        const float factor = 1.0F / sums[half];
#pragma unroll
        for (int d = 0; d < Dim / 8; ++d) {
            target[d * 8] = out[d][2 * half] * factor;
            target[d * 8 + 1] = out[d][2 * half + 1] * factor;
        }
    }
}

template <class Stored>
void tensor_attention(const Attention& a, device::Stream& stream) {
    const dim3 grid(static_cast<unsigned>(a.plan.n_tensor_items));
    if (a.cache.head_dim == 64) {
        launch("tensor_attention", *stream.gpu(), grid, tensor_threads, tensor_shared_bytes<64>,
               tensor_attention_kernel<Stored, 64>, a);
    } else {
        launch("tensor_attention", *stream.gpu(), grid, tensor_threads, tensor_shared_bytes<128>,
               tensor_attention_kernel<Stored, 128>, a);
    }
}

template <class Stored>
void wide_attention(const Attention& a, device::Stream& stream) {
    const auto dim = static_cast<size_t>(a.cache.head_dim);
    const size_t shared = sizeof(float) * (attention_tile * dim + wide_positions * (2 * dim + 1) +
                                           attention_tile * wide_positions);
    launch("attention", *stream.gpu(), dim3(static_cast<unsigned>(a.plan.n_items)), wide_threads, shared,
           wide_attention_kernel<Stored>, a);
}

}  // namespace

void store_kv(const float* keys, const float* values, int64_t stride, const AttentionPlan& plan,
              const KvCache& cache, device::Stream& stream) {
    const int n_threads = threads_for(cache.n_kv_heads * cache.head_dim, 256);
    const dim3 grid(static_cast<unsigned>(plan.n_tokens));
    switch (cache.dtype) {
        case DType::f32:
            return launch("store_kv", *stream.gpu(), grid, n_threads, 0, store_kv_kernel<StoredF32>, keys,
                          values, stride, plan, cache);
        case DType::bf16:
            return launch("store_kv", *stream.gpu(), grid, n_threads, 0, store_kv_kernel<StoredBf16>, keys,
                          values, stride, plan, cache);
        case DType::f16:
            return launch("store_kv", *stream.gpu(), grid, n_threads, 0, store_kv_kernel<StoredF16>, keys,
                          values, stride, plan, cache);
    }
}

void paged_attention(const float* q, int64_t q_stride, int64_t n_heads, float scale, int64_t sliding_window,
                     const AttentionPlan& plan, const KvCache& cache, float* out, device::Stream& stream) {
    Attention a;
    a.q = q;
    a.q_stride = q_stride;
    a.scale = scale;
    a.sliding_window = sliding_window;
    a.plan = plan;
    a.cache = cache;
    a.out = out;
    a.out_stride = n_heads * cache.head_dim;
    const int64_t n_part_rows = plan.n_partials * attention_tile;
    a.part_out = reinterpret_cast<float*>(
        stream.device_scratch(device::ScratchSlot::attention,
                              static_cast<size_t>(n_part_rows * (cache.head_dim + 2)) * sizeof(float)));
    a.part_largest = a.part_out + n_part_rows * cache.head_dim;
    a.part_sum = a.part_largest + n_part_rows;
    switch (cache.dtype) {
        case DType::f32:
            wide_attention<StoredF32>(a, stream);
            break;
        case DType::bf16:
            tensor_attention<StoredBf16>(a, stream);
            wide_attention<StoredBf16>(a, stream);
            break;
        case DType::f16:
            tensor_attention<StoredF16>(a, stream);
            wide_attention<StoredF16>(a, stream);
            break;
    }
    launch("merge_attention", *stream.gpu(), dim3(static_cast<unsigned>(plan.n_merges)), wide_threads, 0,
           merge_kernel, a);
}

}  // namespace mixserve::kernels::cuda
