#pragma once

#include <cstdint>

#include "kernels/linear.h"

/// What linear() and expert_mlp() are made of: products of a few rows with some outputs of a weight matrix.
///
/// One order for every sum. k is cut into blocks of `k_block`, and a block into groups of 16 bytes of
/// weights. Chain c of the block's `n_chains` takes the groups c, c + n_chains, ..: one chain of fused
/// products in rising k, from zero. The chains of the first block are added to y in rising order, then those
/// of the second, and so on. (Four chains are what a cache line gives when a few rows are transposed in
/// registers: a 128-bit lane each.)
namespace mixserve::kernels {

constexpr int64_t k_block = 512;
constexpr int64_t n_chains = 4;

/// Elements of a group.
constexpr int64_t group_size(DType dtype) {
    return 16 / size_of(dtype);
}

/// Floats that a packed row takes.
constexpr int64_t packed_width(int64_t n_in, DType dtype) {
    const int64_t unit = n_chains * group_size(dtype);
    return (n_in + unit - 1) / unit * unit;
}

/// Where element k of row m lies in a tile of n_rows rows: the chains side by side.
constexpr int64_t packed_index(int64_t k, int64_t m, int64_t n_rows, DType dtype) {
    const int64_t group = group_size(dtype);
    const int64_t place = k / (n_chains * group) * group + k % group;
    return (place * n_rows + m) * n_chains + k / group % n_chains;
}

/// Some rows of x side by side, packed for weights of one type. n_rows <= max_tile_rows().
struct RowTile {
    const float* x = nullptr;
    int64_t first_row = 0;  // of y
    int64_t n_rows = 0;
};

/// Where sums are added: output `first_out + j` of row r to data[(rows ? rows[r] : r) * stride + j].
struct OutputRows {
    float* data = nullptr;
    int64_t stride = 0;
    const int32_t* rows = nullptr;
    float* row(int64_t r) const { return data + (rows != nullptr ? rows[r] : r) * stride; }
};

/// Rows that one tile may have on this machine.
int64_t max_tile_rows();

/// Number of tiles that `n_rows` rows are cut into, and the rows of one: as even as can be.
int64_t n_row_tiles(int64_t n_rows);

/// Rows [first_row, first_row + n_rows) of x (row r at x + (rows ? rows[r] : r) * stride) as one tile for
/// weights of `dtype`: packed [n_rows * packed_width].
void pack_rows(const float* x, int64_t stride, const int32_t* rows, int64_t first_row, int64_t n_rows,
               int64_t n_in, DType dtype, float* packed);

/// Bytes of scratch that a thread needs in multiply_add().
constexpr int64_t multiply_scratch_bytes = 64 << 10;

/// Adds x W^T, outputs [first_out, first_out + n_out), to y. Thread 0 polls the stream on the way.
void multiply_add(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles,
                  int64_t n_tiles, const OutputRows& y, device::Stream& stream, int thread,
                  std::byte* scratch);

}  // namespace mixserve::kernels
