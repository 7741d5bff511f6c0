#include "kernels/linear.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "base/partition.h"
#include "kernels/cuda/launch.h"
#include "kernels/product.h"

namespace mixserve::kernels {
namespace {

constexpr int64_t round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

/// Rows that are packed at a time: bounds the memory, and keeps what the tiles read near.
constexpr int64_t max_packed_bytes = 8 << 20;
/// Products with fewer multiplications stay on the calling thread.
constexpr int64_t min_shared_products = 1 << 16;

/// Outputs of one task: a few tasks a thread, long reads of an in_out matrix.
int64_t strip_of(const Weight& weight, int n_threads) {
    if (weight.layout == WeightLayout::in_out)
        return std::max<int64_t>(round_up((weight.n_out + n_threads - 1) / n_threads, 32), 64);
    return std::clamp<int64_t>(round_up(weight.n_out / (8 * n_threads), 32), 32, 512);
}

}  // namespace

void linear(const float* x, int64_t x_stride, int64_t n_rows, const Weight& weight, const float* bias,
            float* y, int64_t y_stride, device::Stream& stream) {
    if (stream.gpu() != nullptr)
        return cuda::linear(x, x_stride, n_rows, weight, bias, y, y_stride, false, stream);
    const int64_t row_floats = std::max<int64_t>(packed_width(weight.n_in, weight.dtype), 1);
    const int64_t row_bytes = row_floats * static_cast<int64_t>(sizeof(float));
    const int64_t rows_at_once = std::max(max_packed_bytes / row_bytes, max_tile_rows());
    const int64_t strip = strip_of(weight, stream.n_threads());
    for (int64_t first = 0; first < n_rows; first += rows_at_once) {
        const int64_t n = std::min(rows_at_once, n_rows - first);
        const int64_t n_tiles = n_row_tiles(n);
        auto* packed = reinterpret_cast<float*>(stream.shared_scratch(static_cast<size_t>(n * row_bytes)));
        std::vector<RowTile> tiles(static_cast<size_t>(n_tiles));
        for (int64_t t = 0; t < n_tiles; ++t) {
            const Range rows = partition(n, n_tiles, t);
            tiles[static_cast<size_t>(t)] = {packed + rows.begin * row_floats, first + rows.begin,
                                             rows.size()};
        }
        const auto pack = [&](int64_t t, int) {
            const Range rows = partition(n, n_tiles, t);
            pack_rows(x, x_stride, nullptr, first + rows.begin, rows.size(), weight.n_in, weight.dtype,
                      packed + rows.begin * row_floats);
        };
        const auto multiply = [&](int64_t task, int thread) {
            const Range outputs = {task * strip, std::min((task + 1) * strip, weight.n_out)};
            for (int64_t r = first; r < first + n; ++r) {
                float* row = y + r * y_stride + outputs.begin;
                if (bias != nullptr) {
                    std::copy_n(bias + outputs.begin, outputs.size(), row);
                } else {
                    std::fill_n(row, outputs.size(), 0.0f);
                }
            }
            multiply_add(weight, outputs.begin, outputs.size(), tiles.data(), n_tiles,
                         {y + outputs.begin, y_stride, nullptr}, stream, thread,
                         stream.scratch(thread, multiply_scratch_bytes));
        };
        const int64_t n_tasks = (weight.n_out + strip - 1) / strip;
        if (n * weight.n_in * weight.n_out < min_shared_products) {
            for (int64_t t = 0; t < n_tiles; ++t)
                pack(t, 0);
            for (int64_t task = 0; task < n_tasks; ++task)
                multiply(task, 0);
        } else {
            stream.parallel_for(n_tiles, pack);
            stream.parallel_for(n_tasks, multiply);
        }
    }
}

}  // namespace mixserve::kernels
