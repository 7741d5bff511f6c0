#include "kernels/product.h"

#include <algorithm>
#include <utility>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
#include <hwy/foreach_target.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

// Up to this many rows, weights go from memory through registers into the sums; beyond, through a panel in
// the cache.
constexpr int64_t max_direct_rows = 4;

int64_t MaxTileRows() {
    return max_tile_rows;
}

/// The rows of an out_in matrix from `first` on, one for each lane; the last stands in for those past the
/// end.
template <class Stored>
struct LaneRows {
    const uint8_t* rows[lanes];
    LaneRows(const Weight& weight, int64_t first) {
        const auto* data = static_cast<const uint8_t*>(weight.data);
        const int64_t row_bytes = weight.n_in * static_cast<int64_t>(sizeof(typename Stored::Bits));
        for (int64_t lane = 0; lane < lanes; ++lane)
            rows[lane] = data + std::min(first + lane, weight.n_out - 1) * row_bytes;
    }
};

template <int Rows>
void TileSums(const float* HWY_RESTRICT x, const float* HWY_RESTRICT panel, int64_t n, int64_t n_out,
              const OutputRows& y, int64_t first_row, int64_t offset) {
    Vf sums[Rows][2];
    sum_panel<Rows>(x, 1, Rows, panel, n, sums);
    for (int m = 0; m < Rows; ++m)
        add_sums(sums[m], n_out, y.row(first_row + m) + offset);
}

using TileFunction = void (*)(const float*, const float*, int64_t, int64_t, const OutputRows&, int64_t,
                              int64_t);

template <int... Index>
TileFunction tile_function(int64_t n_rows, std::integer_sequence<int, Index...>) {
    static constexpr TileFunction functions[] = {TileSums<Index + 1>...};
    return functions[n_rows - 1];
}

template <class Stored>
void FillPanel(const Weight& weight, int64_t first_out, int64_t n_out, int64_t k, int64_t n, float* panel) {
    if (weight.layout == WeightLayout::out_in) {
        for (int64_t lane = 0; lane < panel_width; lane += lanes) {
            const LaneRows<Stored> source(weight, first_out + lane);
            widen_rows<Stored>(source.rows, k, n, panel + lane);
        }
    } else {
        const auto* data =
            static_cast<const typename Stored::Bits*>(weight.data) + k * weight.n_out + first_out;
        for (int64_t i = 0; i < n; ++i)
            widen_row<Stored>(data + i * weight.n_out, n_out, panel + i * panel_width);
    }
}

template <class Stored>
void MultiplyByPanels(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles,
                      int64_t n_tiles, const OutputRows& y, device::Stream& stream, int thread,
                      float* panel) {
    for (int64_t o = 0; o < n_out; o += panel_width) {
        const int64_t width = std::min(panel_width, n_out - o);
        for (int64_t k = 0; k < weight.n_in; k += k_block) {
            const int64_t n = std::min(k_block, weight.n_in - k);
            FillPanel<Stored>(weight, first_out + o, width, k, n, panel);
            for (int64_t t = 0; t < n_tiles; ++t) {
                const RowTile& tile = tiles[t];
                const TileFunction add =
                    tile_function(tile.n_rows, std::make_integer_sequence<int, max_tile_rows>());
                add(tile.x + k * tile.n_rows, panel, n, width, y, tile.first_row, o);
            }
            if (thread == 0) stream.poll();
        }
    }
}

/// out_in, one tile: the sums stay in registers while columns of `panel_width` rows pass.
template <class Stored, int Rows>
void DirectOutIn(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile& tile,
                 const OutputRows& y) {
    const Floats f;
    constexpr int64_t step = columns_at_once<Stored>;
    constexpr int64_t bytes = static_cast<int64_t>(sizeof(typename Stored::Bits));
    for (int64_t o = 0; o < n_out; o += panel_width) {
        const LaneRows<Stored> lower(weight, first_out + o);
        const LaneRows<Stored> upper(weight, first_out + o + lanes);
        for (int64_t begin = 0; begin < weight.n_in; begin += k_block) {
            const int64_t end = std::min(begin + k_block, weight.n_in);
            Vf sums[Rows][2];
#pragma GCC unroll 16
            for (int m = 0; m < Rows; ++m)
                sums[m][0] = sums[m][1] = hn::Zero(f);
            int64_t k = begin;
            for (; k + step <= end; k += step) {
                const float* HWY_RESTRICT x = tile.x + k * Rows;
                for_columns<Stored>(lower.rows, k * bytes, [&](int i, Vf w) HWY_ATTR {
#pragma GCC unroll 16
                    for (int m = 0; m < Rows; ++m)
                        sums[m][0] = hn::MulAdd(hn::Set(f, x[i * Rows + m]), w, sums[m][0]);
                });
                HWY_FENCE;  // else the compiler keeps x in vectors for the upper half, and runs out of them
                for_columns<Stored>(upper.rows, k * bytes, [&](int i, Vf w) HWY_ATTR {
#pragma GCC unroll 16
                    for (int m = 0; m < Rows; ++m)
                        sums[m][1] = hn::MulAdd(hn::Set(f, x[i * Rows + m]), w, sums[m][1]);
                });
            }
            if (k < end) {
                HWY_ALIGN float rest[step * panel_width];
                widen_rows<Stored>(lower.rows, k, end - k, rest);
                widen_rows<Stored>(upper.rows, k, end - k, rest + lanes);
                for (int64_t i = 0; k < end; ++k, ++i) {
                    const Vf w0 = hn::Load(f, rest + i * panel_width);
                    const Vf w1 = hn::Load(f, rest + i * panel_width + lanes);
#pragma GCC unroll 16
                    for (int m = 0; m < Rows; ++m) {
                        const Vf value = hn::Set(f, tile.x[k * Rows + m]);
                        sums[m][0] = hn::MulAdd(value, w0, sums[m][0]);
                        sums[m][1] = hn::MulAdd(value, w1, sums[m][1]);
                    }
                }
            }
            const int64_t width = std::min(panel_width, n_out - o);
#pragma GCC unroll 16
            for (int m = 0; m < Rows; ++m)
                add_sums(sums[m], width, y.row(tile.first_row + m) + o);
        }
    }
}

/// `Steps` rows of an in_out matrix into the sums [Rows][n_out] of a block: long sequential reads.
template <class Stored, int Rows, int Steps>
void AddRows(const typename Stored::Bits* HWY_RESTRICT weights, int64_t row_stride,
             const float* HWY_RESTRICT x, int64_t n_out, float* HWY_RESTRICT sums, int64_t sums_stride) {
    const Floats f;
    int64_t o = 0;
    for (; o + lanes <= n_out; o += lanes) {
        Vf sum[Rows];
#pragma GCC unroll 16
        for (int m = 0; m < Rows; ++m)
            sum[m] = hn::Load(f, sums + m * sums_stride + o);
#pragma GCC unroll 16
        for (int i = 0; i < Steps; ++i) {
            const Vf w = Stored::load(weights + i * row_stride + o);
#pragma GCC unroll 16
            for (int m = 0; m < Rows; ++m)
                sum[m] = hn::MulAdd(hn::Set(f, x[i * Rows + m]), w, sum[m]);
        }
#pragma GCC unroll 16
        for (int m = 0; m < Rows; ++m)
            hn::Store(sum[m], f, sums + m * sums_stride + o);
    }
    if (o == n_out) return;
    HWY_ALIGN float padded[lanes];
    for (int m = 0; m < Rows; ++m) {
        Vf sum = hn::Load(f, sums + m * sums_stride + o);
        for (int i = 0; i < Steps; ++i) {
            for (int64_t j = 0; j < lanes; ++j)
                padded[j] = o + j < n_out ? Stored::widen(weights[i * row_stride + o + j]) : 0.0f;
            sum = hn::MulAdd(hn::Set(f, x[i * Rows + m]), hn::Load(f, padded), sum);
        }
        hn::Store(sum, f, sums + m * sums_stride + o);
    }
}

/// in_out, one tile: the sums of a strip of outputs lie in the first-level cache while rows of weights pass.
template <class Stored, int Rows>
void DirectInOut(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile& tile,
                 const OutputRows& y, float* HWY_RESTRICT sums) {
    constexpr int steps = 8;
    constexpr int64_t strip = 512;
    for (int64_t o = 0; o < n_out; o += strip) {
        const int64_t width = std::min(strip, n_out - o);
        const auto* weights = static_cast<const typename Stored::Bits*>(weight.data) + first_out + o;
        for (int64_t begin = 0; begin < weight.n_in; begin += k_block) {
            const int64_t end = std::min(begin + k_block, weight.n_in);
            std::fill_n(sums, Rows * strip, 0.0f);
            int64_t k = begin;
            for (; k + steps <= end; k += steps)
                AddRows<Stored, Rows, steps>(weights + k * weight.n_out, weight.n_out, tile.x + k * Rows,
                                             width, sums, strip);
            for (; k < end; ++k)
                AddRows<Stored, Rows, 1>(weights + k * weight.n_out, weight.n_out, tile.x + k * Rows, width,
                                         sums, strip);
            for (int m = 0; m < Rows; ++m) {
                float* out = y.row(tile.first_row + m) + o;
                for (int64_t j = 0; j < width; ++j)
                    out[j] += sums[m * strip + j];
            }
        }
    }
}

template <class Stored, int Rows>
void MultiplyDirectly(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile& tile,
                      const OutputRows& y, float* scratch) {
    if (weight.layout == WeightLayout::out_in) {
        DirectOutIn<Stored, Rows>(weight, first_out, n_out, tile, y);
    } else {
        DirectInOut<Stored, Rows>(weight, first_out, n_out, tile, y, scratch);
    }
}

template <class Stored>
void Multiply(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles, int64_t n_tiles,
              const OutputRows& y, device::Stream& stream, int thread, float* scratch) {
    if (n_tiles != 1 || tiles->n_rows > max_direct_rows)
        return MultiplyByPanels<Stored>(weight, first_out, n_out, tiles, n_tiles, y, stream, thread, scratch);
    switch (tiles->n_rows) {
        case 1:
            return MultiplyDirectly<Stored, 1>(weight, first_out, n_out, *tiles, y, scratch);
        case 2:
            return MultiplyDirectly<Stored, 2>(weight, first_out, n_out, *tiles, y, scratch);
        case 3:
            return MultiplyDirectly<Stored, 3>(weight, first_out, n_out, *tiles, y, scratch);
        default:
            return MultiplyDirectly<Stored, 4>(weight, first_out, n_out, *tiles, y, scratch);
    }
}

void MultiplyAdd(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles,
                 int64_t n_tiles, const OutputRows& y, device::Stream& stream, int thread, float* scratch) {
    switch (weight.dtype) {
        case DType::f32:
            return Multiply<StoredF32>(weight, first_out, n_out, tiles, n_tiles, y, stream, thread, scratch);
        case DType::f16:
            return Multiply<StoredF16>(weight, first_out, n_out, tiles, n_tiles, y, stream, thread, scratch);
        case DType::bf16:
            return Multiply<StoredBf16>(weight, first_out, n_out, tiles, n_tiles, y, stream, thread, scratch);
    }
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mixserve::kernels {

HWY_EXPORT(MaxTileRows);
HWY_EXPORT(MultiplyAdd);

int64_t max_tile_rows() {
    return HWY_DYNAMIC_DISPATCH(MaxTileRows)();
}

int64_t n_row_tiles(int64_t n_rows) {
    const int64_t most = max_tile_rows();
    return (n_rows + most - 1) / most;
}

void pack_rows(const float* x, int64_t stride, const int32_t* rows, int64_t first_row, int64_t n_rows,
               int64_t n_in, float* packed) {
    for (int64_t m = 0; m < n_rows; ++m) {
        const int64_t row = first_row + m;
        const float* source = x + (rows != nullptr ? rows[row] : row) * stride;
        for (int64_t k = 0; k < n_in; ++k)
            packed[k * n_rows + m] = source[k];
    }
}

void multiply_add(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles,
                  int64_t n_tiles, const OutputRows& y, device::Stream& stream, int thread,
                  std::byte* scratch) {
    HWY_DYNAMIC_DISPATCH(MultiplyAdd)
    (weight, first_out, n_out, tiles, n_tiles, y, stream, thread, reinterpret_cast<float*>(scratch));
}

}  // namespace mixserve::kernels
#endif  // HWY_ONCE
