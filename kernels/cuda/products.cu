// Products of rows with weights: dense ones, and grouped by expert. Three ways:
//  - on the tensor cores, for 16-bit weights whose sizes are multiples of 8. Rows are narrowed to the
//  weights' type
//    first. In the small form (16 rows a block, for decode, where reading the weights is what takes time) a
//    row is the sum of two narrow values, and so keeps 16 bits of mantissa; in the large form (128 rows) it
//    is one;
//  - on the ordinary cores in f32, for f32 weights and for odd sizes;
//  - dense products of many rows by the vendor's library, where it is there.
// All sums of one output run in one fixed order; nothing is added atomically.

#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/library_product.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/cuda/simt.cuh"

namespace mixserve::kernels::cuda {
namespace {

using namespace mixserve::simt;

/// What a product's outputs become.
enum class Output : uint8_t {
    dense,    // y[row] (+ bias); or, in parts, partial sums over a range of k
    grouped,  // y[entry]
    gated  // activations of the entry: gate_weight * silu(x gate^T) * (x up^T), in the form the next product
           // reads
};

/// Rows of a 16-bit operand as a sum of two: hi + lo. lo may be null.
struct Split {
    uint16_t* hi = nullptr;
    uint16_t* lo = nullptr;
};

struct Product {
    // x: narrow (for the tensor cores) or wide
    Split x;
    const float* wide_x = nullptr;
    int64_t x_stride = 0;
    const int32_t* x_rows = nullptr;  // the row of each entry; null: entry i is row i
    // W
    const void* weight = nullptr;  // of `gated`: gate
    const void* up = nullptr;
    int64_t expert_elements = 0;
    bool transposed = false;  // in_out
    int64_t n_out = 0;
    int64_t n_in = 0;
    // rows
    int64_t n_rows = 0;  // dense
    const ExpertTile* tiles = nullptr;
    const int32_t* n_tiles = nullptr;
    const int32_t* offsets = nullptr;
    // y
    float* y = nullptr;
    int64_t y_stride = 0;
    const float* bias = nullptr;
    int64_t k_per_part = 0;   // dense: blockIdx.z takes [z * k_per_part, ..)
    int64_t part_stride = 0;  // between the parts' outputs
    const float* gate_weights = nullptr;
    Split activations;
    float* wide_activations = nullptr;
};

/// The rows that a block works on.
struct Rows {
    int64_t expert = 0;
    int64_t first = 0;  // entry, or row of a dense product
    int64_t end = 0;
};

/// False: there is nothing for this block.
__device__ __forceinline__ bool find_rows(const Product& p, int tile_rows, Rows& rows) {
    if (p.tiles == nullptr) {
        rows.first = static_cast<int64_t>(blockIdx.y) * tile_rows;
        rows.end = p.n_rows;
        return true;
    }
    if (static_cast<int32_t>(blockIdx.y) >= *p.n_tiles) return false;
    const ExpertTile tile = p.tiles[blockIdx.y];
    rows.expert = tile.expert;
    rows.first = tile.first_entry;
    rows.end = p.offsets[tile.expert + 1];
    return true;
}

__device__ __forceinline__ float silu(float v) {
    return v / (1.0F + expf(-v));
}

template <class Stored>
__device__ __forceinline__ void store_split(const Split& to, int64_t at, float value) {
    const uint16_t hi = Stored::narrow(value);
    to.hi[at] = hi;
    if (to.lo != nullptr) to.lo[at] = Stored::narrow(value - Stored::widen(hi));
}

template <class Stored>
__global__ void narrow_kernel(const float* x, int64_t x_stride, int64_t width, int64_t n, Split out) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) store_split<Stored>(out, i, x[i / width * x_stride + i % width]);
}

/// y[row] = the sum of the parts in their order, + bias.
__global__ void sum_parts_kernel(const float* parts, int n_parts, int64_t part_stride, int64_t n_out,
                                 int64_t n, const float* bias, float* y, int64_t y_stride) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = bias != nullptr ? bias[i % n_out] : 0.0F;
    for (int p = 0; p < n_parts; ++p)
        sum += parts[p * part_stride + i];
    y[i / n_out * y_stride + i % n_out] = sum;
}

__global__ void add_bias_kernel(const float* bias, int64_t n_out, int64_t n, float* y, int64_t y_stride) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) y[i / n_out * y_stride + i % n_out] += bias[i % n_out];
}

// ---- ordinary cores ----

constexpr int wide_rows = 16;
constexpr int wide_outputs = 64;
constexpr int wide_k = 32;
constexpr int wide_threads = 256;

/// W[o, k] of an expert's matrix, widened; 0 outside.
template <class Stored>
__device__ __forceinline__ float weight_at(const Product& p, const void* matrix, int64_t expert, int64_t o,
                                           int64_t k) {
    if (o >= p.n_out || k >= p.n_in) return 0.0F;
    const auto* w = static_cast<const typename Stored::Bits*>(matrix) + expert * p.expert_elements;
    return Stored::widen(p.transposed ? w[k * p.n_out + o] : w[o * p.n_in + k]);
}

// wide_rows x wide_outputs of the result a block: a thread has one row and every sixteenth output.
template <class Stored, Output Kind>
__global__ void wide_product_kernel(const __grid_constant__ Product p) {
    constexpr int n_matrices = Kind == Output::gated ? 2 : 1;
    constexpr int own_outputs = wide_outputs / 16;
    float* x_tile = shared_memory<float>();             // [wide_rows][wide_k + 1]
    float* w_tile = x_tile + wide_rows * (wide_k + 1);  // [n_matrices][wide_outputs][wide_k + 1]
    Rows rows;
    if (!find_rows(p, wide_rows, rows)) return;
    const int thread = static_cast<int>(threadIdx.x);
    const int row = thread / 16;
    const int column = thread % 16;
    const int64_t first_out = static_cast<int64_t>(blockIdx.x) * wide_outputs;
    float sums[n_matrices][own_outputs] = {};
    for (int64_t k0 = 0; k0 < p.n_in; k0 += wide_k) {
        for (int i = thread; i < wide_rows * wide_k; i += wide_threads) {
            const int64_t entry = rows.first + i / wide_k;
            const int64_t k = k0 + i % wide_k;
            float value = 0.0F;
            if (entry < rows.end && k < p.n_in) {
                const int64_t x_row = p.x_rows != nullptr ? p.x_rows[entry] : entry;
                value = p.wide_x[x_row * p.x_stride + k];
            }
            x_tile[i / wide_k * (wide_k + 1) + i % wide_k] = value;
        }
        for (int i = thread; i < n_matrices * wide_outputs * wide_k; i += wide_threads) {
            const int m = i / (wide_outputs * wide_k);
            const int j = i % (wide_outputs * wide_k);
            // Neighbouring threads read neighbouring weights, whichever way they lie.
            const int o = p.transposed ? j % wide_outputs : j / wide_k;
            const int k = p.transposed ? j / wide_outputs : j % wide_k;
            w_tile[(m * wide_outputs + o) * (wide_k + 1) + k] =
                weight_at<Stored>(p, m == 0 ? p.weight : p.up, rows.expert, first_out + o, k0 + k);
        }
        __syncthreads();
        for (int k = 0; k < wide_k; ++k) {
            const float value = x_tile[row * (wide_k + 1) + k];
            for (int m = 0; m < n_matrices; ++m) {
                for (int j = 0; j < own_outputs; ++j) {
                    sums[m][j] = fmaf(value, w_tile[(m * wide_outputs + column + 16 * j) * (wide_k + 1) + k],
                                      sums[m][j]);
                }
            }
        }
        __syncthreads();
    }
    const int64_t entry = rows.first + row;
    if (entry >= rows.end) return;
    for (int j = 0; j < own_outputs; ++j) {
        const int64_t o = first_out + column + 16 * j;
        if (o >= p.n_out) continue;
        if constexpr (Kind == Output::gated) {
            p.wide_activations[entry * p.n_out + o] = p.gate_weights[entry] * (silu(sums[0][j]) * sums[1][j]);
        } else {
            p.y[entry * p.y_stride + o] = sums[0][j] + (p.bias != nullptr ? p.bias[o] : 0.0F);
        }
    }
}

template <Output Kind>
void wide_product(const Product& p, DType dtype, int64_t n_tiles, device::Stream& stream) {
    constexpr int n_matrices = Kind == Output::gated ? 2 : 1;
    constexpr size_t shared = (wide_rows + n_matrices * wide_outputs) * (wide_k + 1) * sizeof(float);
    const dim3 grid(static_cast<unsigned>(ceil_div(p.n_out, wide_outputs)), static_cast<unsigned>(n_tiles));
    const auto run = [&](auto stored) {
        launch("wide_product", *stream.gpu(), grid, wide_threads, shared,
               wide_product_kernel<decltype(stored), Kind>, p);
    };
    switch (dtype) {
        case DType::f32:
            return run(StoredF32{});
        case DType::bf16:
            return run(StoredBf16{});
        case DType::f16:
            return run(StoredF16{});
    }
}

// ---- tensor cores ----

constexpr int tensor_k = 64;            // elements of k in shared memory at a time
constexpr int padded_k = tensor_k + 8;  // so that eight rows' 16-byte pieces lie in different banks

/// How a block's tile is cut: rows_m * tiles_m * 16 rows, warps_n * tiles_n * 8 outputs.
struct SmallTile {
    static constexpr int warps_m = 1, tiles_m = 1, warps_n = 4, tiles_n = 2, n_stages = 4;
    static constexpr int blocks_at_once = 4;  // on a multiprocessor
    static constexpr bool split = true;
};
struct LargeTile {
    static constexpr int warps_m = 4, tiles_m = 2, warps_n = 2, tiles_n = 8, n_stages = 3;
    static constexpr int blocks_at_once = 2;
    static constexpr bool split = false;
};

template <class Tile, bool Transposed>
struct TileSizes {
    static constexpr int rows = Tile::warps_m * Tile::tiles_m * 16;
    static constexpr int outputs = Tile::warps_n * Tile::tiles_n * 8;
    static constexpr int n_threads = Tile::warps_m * Tile::warps_n * warp_size;
    static constexpr int padded_outputs = outputs + 8;
    // In elements of 16 bits.
    static constexpr int x_elements = rows * padded_k;
    static constexpr int w_elements = Transposed ? tensor_k * padded_outputs : outputs * padded_k;
    static constexpr int stage_elements = (Tile::split ? 2 : 1) * x_elements + w_elements;
    static constexpr size_t shared_bytes = size_t{2} * Tile::n_stages * stage_elements;
};

/// One block's product.
template <class Stored, class Tile, bool Transposed, Output Kind>
struct TensorProduct {
    using Sizes = TileSizes<Tile, Transposed>;
    static constexpr int own_outputs = Kind == Output::gated ? Sizes::outputs / 2 : Sizes::outputs;

    const Product& p;
    Rows rows;
    int64_t first_out;
    int64_t k_begin;
    int64_t k_end;
    uint16_t* memory;
    int thread;

    __device__ uint16_t* x_tile(int stage) const { return memory + stage * Sizes::stage_elements; }
    __device__ uint16_t* w_tile(int stage) const {
        return x_tile(stage) + (Tile::split ? 2 : 1) * Sizes::x_elements;
    }

    /// The output that row (or column, transposed) `i` of the tile of weights is for; in `gated` the second
    /// half are those of `up`.
    __device__ int64_t output_of(int i) const { return first_out + (i < own_outputs ? i : i - own_outputs); }
    __device__ const uint16_t* matrix_of(int i) const {
        const void* matrix = Kind == Output::gated && i >= own_outputs ? p.up : p.weight;
        return static_cast<const uint16_t*>(matrix) + rows.expert * p.expert_elements;
    }

    __device__ void load(int stage, int64_t k0) const {
        constexpr int pieces = tensor_k / 8;
        uint16_t* x = x_tile(stage);
        for (int i = thread; i < Sizes::rows * pieces; i += Sizes::n_threads) {
            const int row = i / pieces;
            const int piece = i % pieces * 8;
            const int64_t entry = rows.first + row;
            const bool has = entry < rows.end && k0 + piece < k_end;
            int64_t from = 0;
            if (has) from = (p.x_rows != nullptr ? p.x_rows[entry] : entry) * p.x_stride + k0 + piece;
            copy_16_async(x + row * padded_k + piece, p.x.hi + from, has);
            if constexpr (Tile::split)
                copy_16_async(x + Sizes::x_elements + row * padded_k + piece, p.x.lo + from, has);
        }
        uint16_t* w = w_tile(stage);
        if constexpr (Transposed) {
            constexpr int row_pieces = Sizes::outputs / 8;
            for (int i = thread; i < tensor_k * row_pieces; i += Sizes::n_threads) {
                const int k = i / row_pieces;
                const int piece = i % row_pieces * 8;
                const int64_t o = output_of(piece);
                const bool has = o < p.n_out && k0 + k < k_end;
                copy_16_async(w + k * Sizes::padded_outputs + piece,
                              matrix_of(piece) + (has ? (k0 + k) * p.n_out + o : 0), has);
            }
        } else {
            for (int i = thread; i < Sizes::outputs * pieces; i += Sizes::n_threads) {
                const int row = i / pieces;
                const int piece = i % pieces * 8;
                const int64_t o = output_of(row);
                const bool has = o < p.n_out && k0 + piece < k_end;
                copy_16_async(w + row * padded_k + piece,
                              matrix_of(row) + (has ? o * p.n_in + k0 + piece : 0), has);
            }
        }
    }

    /// The tile's row (or column) where the warp's n-tile `j` begins.
    __device__ static int tile_of(int warp_n, int j) {
        if constexpr (Kind == Output::gated) {
            constexpr int half = Tile::tiles_n / 2;
            return (j < half ? 0 : own_outputs) + (warp_n * half + j % half) * 8;
        } else {
            return (warp_n * Tile::tiles_n + j) * 8;
        }
    }

    __device__ void multiply(int stage, float (&sums)[Tile::tiles_m][Tile::tiles_n][4]) const {
        const int warp = thread / warp_size;
        const int lane = thread % warp_size;
        const int warp_m = warp / Tile::warps_n;
        const int warp_n = warp % Tile::warps_n;
        const uint16_t* x = x_tile(stage);
        const uint16_t* w = w_tile(stage);
#pragma unroll
        for (int k = 0; k < tensor_k; k += 16) {
            uint32_t b[Tile::tiles_n][2];
#pragma unroll
            for (int j = 0; j < Tile::tiles_n; j += 2) {
                uint32_t r[4];
                const int n_row =
                    tile_of(warp_n, j + lane / 16);  // the first two matrices are of j, the others of j + 1
                const int k_half = lane / 8 % 2 * 8;
                if constexpr (Transposed) {
                    load_matrices_transposed(r, w + (k + k_half + lane % 8) * Sizes::padded_outputs + n_row);
                } else {
                    load_matrices(r, w + (n_row + lane % 8) * padded_k + k + k_half);
                }
                b[j][0] = r[0];
                b[j][1] = r[1];
                b[j + 1][0] = r[2];
                b[j + 1][1] = r[3];
            }
#pragma unroll
            for (int i = 0; i < Tile::tiles_m; ++i) {
                const int at = ((warp_m * Tile::tiles_m + i) * 16 + lane % 16) * padded_k + k + lane / 16 * 8;
                uint32_t a[4];
                load_matrices(a, x + at);
#pragma unroll
                for (int j = 0; j < Tile::tiles_n; ++j)
                    multiply_tile<Stored::is_bf16>(sums[i][j], a, b[j][0], b[j][1]);
                if constexpr (Tile::split) {
                    load_matrices(a, x + Sizes::x_elements + at);
#pragma unroll
                    for (int j = 0; j < Tile::tiles_n; ++j)
                        multiply_tile<Stored::is_bf16>(sums[i][j], a, b[j][0], b[j][1]);
                }
            }
        }
    }

    __device__ void store(const float (&sums)[Tile::tiles_m][Tile::tiles_n][4]) const {
        const int warp = thread / warp_size;
        const int lane = thread % warp_size;
        const int warp_m = warp / Tile::warps_n;
        const int warp_n = warp % Tile::warps_n;
        constexpr int n_tiles = Kind == Output::gated ? Tile::tiles_n / 2 : Tile::tiles_n;
#pragma unroll
        for (int i = 0; i < Tile::tiles_m; ++i) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const int64_t entry = rows.first + (warp_m * Tile::tiles_m + i) * 16 + lane / 4 + c / 2 * 8;
                if (entry >= rows.end) continue;
#pragma unroll
                for (int j = 0; j < n_tiles; ++j) {
                    const int64_t o = first_out + tile_of(warp_n, j) + lane % 4 * 2 + c % 2;
                    if (o >= p.n_out) continue;
                    if constexpr (Kind == Output::gated) {
                        const float value =
                            p.gate_weights[entry] * (silu(sums[i][j][c]) * sums[i][j + n_tiles][c]);
                        store_split<Stored>(p.activations, entry * p.n_out + o, value);
                    } else {
                        float value = sums[i][j][c];
                        if (p.bias != nullptr) value += p.bias[o];
                        p.y[blockIdx.z * p.part_stride + entry * p.y_stride + o] = value;
                    }
                }
            }
        }
    }
};

template <class Stored, class Tile, bool Transposed, Output Kind>
__global__ void __launch_bounds__(TileSizes<Tile, Transposed>::n_threads, Tile::blocks_at_once)
    tensor_product_kernel(const __grid_constant__ Product p) {
    using Block = TensorProduct<Stored, Tile, Transposed, Kind>;
    Block block{p,
                {},
                static_cast<int64_t>(blockIdx.x) * Block::own_outputs,
                0,
                p.n_in,
                shared_memory<uint16_t>(),
                static_cast<int>(threadIdx.x)};
    if (!find_rows(p, Block::Sizes::rows, block.rows)) return;
    if constexpr (Kind == Output::dense) {
        block.k_begin = static_cast<int64_t>(blockIdx.z) * p.k_per_part;
        block.k_end = block.k_begin + p.k_per_part < p.n_in ? block.k_begin + p.k_per_part : p.n_in;
    }
    const int n_steps = static_cast<int>(ceil_div(block.k_end - block.k_begin, tensor_k));
    float sums[Tile::tiles_m][Tile::tiles_n][4] = {};
    for (int step = 0; step < Tile::n_stages - 1; ++step) {
        if (step < n_steps) block.load(step, block.k_begin + step * tensor_k);
        close_copies();
    }
    for (int step = 0; step < n_steps; ++step) {
        wait_for_copies<Tile::n_stages - 2>();
        __syncthreads();  // all have what they copied of this step, and all have left the step before
        const int next = step + Tile::n_stages - 1;
        if (next < n_steps) block.load(next % Tile::n_stages, block.k_begin + next * tensor_k);
        close_copies();
        block.multiply(step % Tile::n_stages, sums);
    }
    block.store(sums);
}

template <class Tile, bool Transposed, Output Kind>
void tensor_product(const Product& p, DType dtype, int64_t n_tiles, int64_t n_parts, device::Stream& stream) {
    using Sizes = TileSizes<Tile, Transposed>;
    constexpr int own_outputs = Kind == Output::gated ? Sizes::outputs / 2 : Sizes::outputs;
    const dim3 grid(static_cast<unsigned>(ceil_div(p.n_out, own_outputs)), static_cast<unsigned>(n_tiles),
                    static_cast<unsigned>(n_parts));
    if (dtype == DType::bf16) {
        launch("tensor_product", *stream.gpu(), grid, Sizes::n_threads, Sizes::shared_bytes,
               tensor_product_kernel<StoredBf16, Tile, Transposed, Kind>, p);
    } else {
        launch("tensor_product", *stream.gpu(), grid, Sizes::n_threads, Sizes::shared_bytes,
               tensor_product_kernel<StoredF16, Tile, Transposed, Kind>, p);
    }
}

// ---- choices ----

constexpr int64_t small_rows = TileSizes<SmallTile, false>::rows;
constexpr int64_t large_rows = TileSizes<LargeTile, false>::rows;
/// Up to this many rows (of an expert: on average) a product is one of reading the weights.
constexpr int64_t few_dense_rows = 64;
constexpr int64_t few_expert_rows = 32;

bool is_aligned(const void* p) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

Split split_scratch(std::byte* memory, int64_t n, bool both) {
    auto* hi = reinterpret_cast<uint16_t*>(memory);
    return {hi, both ? hi + (n + 7) / 8 * 8 : nullptr};
}
size_t split_bytes(int64_t n, bool both) {
    return static_cast<size_t>((n + 7) / 8 * 8) * sizeof(uint16_t) * (both ? 2 : 1);
}

/// x in the weights' type, in the stream's scratch for operands.
Split narrow_rows(const float* x, int64_t x_stride, int64_t n_rows, int64_t width, DType dtype, bool both,
                  device::Stream& stream) {
    const int64_t n = n_rows * width;
    const Split out =
        split_scratch(stream.device_scratch(device::ScratchSlot::operands, split_bytes(n, both)), n, both);
    constexpr int n_threads = 256;
    const dim3 grid(static_cast<unsigned>(ceil_div(n, n_threads)));
    if (dtype == DType::bf16) {
        launch("narrow", *stream.gpu(), grid, n_threads, 0, narrow_kernel<StoredBf16>, x, x_stride, width, n,
               out);
    } else {
        launch("narrow", *stream.gpu(), grid, n_threads, 0, narrow_kernel<StoredF16>, x, x_stride, width, n,
               out);
    }
    return out;
}

/// Parts that k is cut into, so that a product with few outputs keeps the GPU busy. Depends on the matrix and
/// the GPU alone.
int64_t parts_of_k(const Weight& weight) {
    const int64_t n_blocks = ceil_div(weight.n_out, TileSizes<SmallTile, false>::outputs);
    const int64_t wanted = 2 * device::gpu_in_use().n_multiprocessors;
    const int64_t most = std::max<int64_t>(weight.n_in / 256, 1);
    return std::clamp<int64_t>(wanted / n_blocks, 1, std::min<int64_t>(most, 16));
}

template <class Tile>
void dense_tensor_product(const Product& p, const Weight& weight, int64_t n_parts, device::Stream& stream) {
    const int64_t n_tiles = ceil_div(p.n_rows, TileSizes<Tile, false>::rows);
    if (p.transposed) {
        tensor_product<Tile, true, Output::dense>(p, weight.dtype, n_tiles, n_parts, stream);
    } else {
        tensor_product<Tile, false, Output::dense>(p, weight.dtype, n_tiles, n_parts, stream);
    }
}

void few_rows_product(Product p, const Weight& weight, device::Stream& stream) {
    const int64_t n_parts = parts_of_k(weight);
    p.k_per_part = ceil_div(ceil_div(p.n_in, n_parts), tensor_k) * tensor_k;
    const int64_t n_used = ceil_div(p.n_in, p.k_per_part);
    if (n_used == 1) return dense_tensor_product<SmallTile>(p, weight, 1, stream);
    const Product whole = p;
    const int64_t n = p.n_rows * p.n_out;
    p.y = reinterpret_cast<float*>(stream.device_scratch(device::ScratchSlot::partial_sums,
                                                         static_cast<size_t>(n_used * n) * sizeof(float)));
    p.y_stride = p.n_out;
    p.part_stride = n;
    p.bias = nullptr;
    dense_tensor_product<SmallTile>(p, weight, n_used, stream);
    constexpr int n_threads = 256;
    launch("sum_parts", *stream.gpu(), dim3(static_cast<unsigned>(ceil_div(n, n_threads))), n_threads, 0,
           sum_parts_kernel, p.y, n_used, n, p.n_out, n, whole.bias, whole.y, whole.y_stride);
}

void add_bias(const float* bias, int64_t n_rows, int64_t n_out, float* y, int64_t y_stride,
              device::Stream& stream) {
    if (bias == nullptr) return;
    constexpr int n_threads = 256;
    const int64_t n = n_rows * n_out;
    launch("add_bias", *stream.gpu(), dim3(static_cast<unsigned>(ceil_div(n, n_threads))), n_threads, 0,
           add_bias_kernel, bias, n_out, n, y, y_stride);
}

bool is_wide(const ExpertWeights& w) {
    return w.dtype == DType::f32 || w.hidden_size % 8 != 0 || w.intermediate_size % 8 != 0;
}
bool few_rows_an_expert(int64_t n_entries, const ExpertWeights& w) {
    return is_wide(w) || n_entries <= few_expert_rows * w.n_experts;
}

/// Both products of the experts' MLPs, and the sum of their rows.
void run_experts(const float* x, int64_t n_rows, const SortedEntries& entries, const ExpertWeights& w,
                 bool few, float* out, device::Stream& stream) {
    Product up;
    up.x_stride = w.hidden_size;
    up.x_rows = entries.rows;
    up.weight = w.gate;
    up.up = w.up;
    up.expert_elements = w.hidden_size * w.intermediate_size;
    up.n_out = w.intermediate_size;
    up.n_in = w.hidden_size;
    up.tiles = entries.tiles;
    up.n_tiles = entries.n_tiles;
    up.offsets = entries.offsets;
    up.gate_weights = entries.gate_weights;

    Product down = up;
    down.x_stride = w.intermediate_size;
    down.x_rows = nullptr;
    down.weight = w.down;
    down.transposed = true;
    down.n_out = w.hidden_size;
    down.n_in = w.intermediate_size;
    down.y_stride = w.hidden_size;

    const bool wide = is_wide(w);
    const int64_t n_hidden = entries.max_entries * w.intermediate_size;
    const size_t hidden_bytes =
        wide ? static_cast<size_t>(n_hidden) * sizeof(float) : split_bytes(n_hidden, few);
    const size_t parts_at = (hidden_bytes + 255) / 256 * 256;
    std::byte* memory = stream.device_scratch(
        device::ScratchSlot::experts,
        parts_at + static_cast<size_t>(entries.max_entries * w.hidden_size) * sizeof(float));
    down.y = reinterpret_cast<float*>(memory + parts_at);
    if (wide) {
        up.wide_x = x;
        up.wide_activations = reinterpret_cast<float*>(memory);
        down.wide_x = up.wide_activations;
        wide_product<Output::gated>(up, w.dtype, entries.max_tiles, stream);
        wide_product<Output::grouped>(down, w.dtype, entries.max_tiles, stream);
    } else {
        up.x = narrow_rows(x, w.hidden_size, n_rows, w.hidden_size, w.dtype, few, stream);
        up.activations = split_scratch(memory, n_hidden, few);
        down.x = up.activations;
        if (few) {
            tensor_product<SmallTile, false, Output::gated>(up, w.dtype, entries.max_tiles, 1, stream);
            tensor_product<SmallTile, true, Output::grouped>(down, w.dtype, entries.max_tiles, 1, stream);
        } else {
            tensor_product<LargeTile, false, Output::gated>(up, w.dtype, entries.max_tiles, 1, stream);
            tensor_product<LargeTile, true, Output::grouped>(down, w.dtype, entries.max_tiles, 1, stream);
        }
    }
    sum_entries(down.y, entries, n_rows, w.hidden_size, out, stream);
}

int64_t tile_rows_of(bool few) {
    return few ? small_rows : large_rows;
}
static_assert(small_rows == wide_rows);

}  // namespace

void linear(const float* x, int64_t x_stride, int64_t n_rows, const Weight& weight, const float* bias,
            float* y, int64_t y_stride, bool exact, device::Stream& stream) {
    if (n_rows == 0 || weight.n_out == 0) return;
    Product p;
    p.wide_x = x;
    p.x_stride = x_stride;
    p.weight = weight.data;
    p.transposed = weight.layout == WeightLayout::in_out;
    p.n_out = weight.n_out;
    p.n_in = weight.n_in;
    p.n_rows = n_rows;
    p.y = y;
    p.y_stride = y_stride;
    p.bias = bias;
    p.k_per_part = weight.n_in;
    const bool many = n_rows > few_dense_rows && !exact;
    const bool even =
        weight.n_in % 8 == 0 && (!p.transposed || weight.n_out % 8 == 0) && is_aligned(weight.data);
    const bool library = many && even && has_library_products(nullptr);
    if (weight.dtype == DType::f32 || !even) {
        if (library && weight.dtype == DType::f32 && x_stride == weight.n_in) {
            library_product(x, n_rows, weight, y, y_stride, stream);
            return add_bias(bias, n_rows, weight.n_out, y, y_stride, stream);
        }
        return wide_product<Output::dense>(p, weight.dtype, ceil_div(n_rows, wide_rows), stream);
    }
    p.x = narrow_rows(x, x_stride, n_rows, weight.n_in, weight.dtype, !many, stream);
    p.x_stride = weight.n_in;
    if (library) {
        library_product(p.x.hi, n_rows, weight, y, y_stride, stream);
        return add_bias(bias, n_rows, weight.n_out, y, y_stride, stream);
    }
    if (many) return dense_tensor_product<LargeTile>(p, weight, 1, stream);
    few_rows_product(p, weight, stream);
}

void expert_mlp(const float* x, int64_t n_rows, const ExpertRows& rows, const ExpertWeights& weights,
                float* out, device::Stream& stream) {
    const auto n_entries = static_cast<int64_t>(rows.rows.size());
    const size_t n_bytes = static_cast<size_t>(n_rows * weights.hidden_size) * sizeof(float);
    if (n_entries == 0 || weights.intermediate_size == 0) return stream.gpu()->clear(out, n_bytes);
    const bool few = few_rows_an_expert(n_entries, weights);
    const SortedEntries entries = upload_entries(rows, n_rows, weights.n_experts, tile_rows_of(few), stream);
    run_experts(x, n_rows, entries, weights, few, out, stream);
}

void expert_mlp_routed(const float* x, int64_t n_rows, const ChosenExperts& chosen,
                       const ExpertWeights& weights, float* out, device::Stream& stream) {
    if (n_rows == 0) return;
    const size_t n_bytes = static_cast<size_t>(n_rows * weights.hidden_size) * sizeof(float);
    if (weights.n_experts == 0 || weights.intermediate_size == 0) return stream.gpu()->clear(out, n_bytes);
    const bool few =
        few_rows_an_expert(chosen.likely_entries < 0 ? n_rows * chosen.k : chosen.likely_entries, weights);
    const SortedEntries entries = sort_entries(chosen, n_rows, weights.n_experts, tile_rows_of(few), stream);
    run_experts(x, n_rows, entries, weights, few, out, stream);
}

}  // namespace mixserve::kernels::cuda
