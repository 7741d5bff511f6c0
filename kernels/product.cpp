#include "kernels/product.h"

#include <algorithm>
#include <cstring>
#include <utility>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
#include <hwy/foreach_target.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

/// Elements of a chain in a whole block.
constexpr int64_t chain_rows = k_block / n_chains;

template <class Stored>
constexpr int64_t group = 16 / static_cast<int64_t>(sizeof(typename Stored::Bits));

/// Elements of chain c in a block of n.
template <class Stored>
constexpr int64_t chain_length(int64_t n, int64_t c) {
    constexpr int64_t g = group<Stored>;
    return n / (n_chains * g) * g + std::clamp<int64_t>(n % (n_chains * g) - c * g, 0, g);
}

/// The row of a panel for element k of a block: one chain after the other.
template <class Stored>
constexpr int64_t panel_row(int64_t k) {
    constexpr int64_t g = group<Stored>;
    return k / g % n_chains * chain_rows + k / (n_chains * g) * g + k % g;
}

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

template <class Stored, int Rows>
void TileSums(const float* HWY_RESTRICT x, const float* HWY_RESTRICT panel, int64_t n, int64_t n_out,
              const OutputRows& y, int64_t first_row, int64_t offset) {
    for (int64_t c = 0; c < n_chains; ++c) {
        Vf sums[Rows][2];
        sum_panel<Rows>(x + c, n_chains, n_chains * Rows, panel + c * chain_rows * panel_width,
                        chain_length<Stored>(n, c), sums);
        for (int m = 0; m < Rows; ++m)
            add_sums(sums[m], n_out, y.row(first_row + m) + offset);
    }
}

using TileFunction = void (*)(const float*, const float*, int64_t, int64_t, const OutputRows&, int64_t,
                              int64_t);

template <class Stored, int... Index>
TileFunction tile_function(int64_t n_rows, std::integer_sequence<int, Index...>) {
    static constexpr TileFunction functions[] = {TileSums<Stored, Index + 1>...};
    return functions[n_rows - 1];
}

template <class Stored>
void FillPanel(const Weight& weight, int64_t first_out, int64_t n_out, int64_t k, int64_t n, float* panel) {
    if (weight.layout == WeightLayout::out_in) {
        const auto place = [](int64_t i, int64_t j) { return panel_row<Stored>(i) + panel_row<Stored>(j); };
        for (int64_t lane = 0; lane < panel_width; lane += lanes) {
            const LaneRows<Stored> source(weight, first_out + lane);
            widen_rows<Stored>(source.rows, k, n, panel + lane, place);
        }
    } else {
        const auto* data =
            static_cast<const typename Stored::Bits*>(weight.data) + k * weight.n_out + first_out;
        for (int64_t i = 0; i < n; ++i)
            widen_row<Stored>(data + i * weight.n_out, n_out, panel + panel_row<Stored>(i) * panel_width);
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
                    tile_function<Stored>(tile.n_rows, std::make_integer_sequence<int, max_tile_rows>());
                add(tile.x + k * tile.n_rows, panel, n, width, y, tile.first_row, o);
            }
            if (thread == 0) stream.poll();
        }
    }
}

#if HWY_TARGET != HWY_SCALAR

constexpr int n_quads = static_cast<int>(lanes / 4);              // of rows, in the outputs of one vector
constexpr int line_vectors = 64 / (4 * static_cast<int>(lanes));  // vectors in a cache line

/// Adds a cache line of each of `lanes` rows of weights; x points to the packed elements of its place.
/// sums[m][q][v]: rows 4 q .. 4 q + 3 of the weights for row m of x; block b of the vector is chain v *
/// n_quads + b.
template <class Stored, int Rows>
HWY_INLINE void AddLine(const uint8_t* const* rows, int64_t offset, const float* HWY_RESTRICT x,
                        Vf (&sums)[Rows][n_quads][line_vectors]) {
    const Floats f;
    const hn::RebindToSigned<Floats> i32;
    constexpr int per_word = Stored::per_word;
    // Quads whose transposed words fit the registers beside the sums.
    constexpr int at_once = Rows <= 2 ? n_quads : (n_quads + 1) / 2;
#pragma GCC unroll 4
    for (int v = 0; v < line_vectors; ++v) {
        const auto chain_of_lane =
            hn::IndicesFromVec(f, hn::Add(hn::ShiftRight<2>(hn::Iota(i32, 0)), hn::Set(i32, v * n_quads)));
#pragma GCC unroll 4
        for (int first = 0; first < n_quads; first += at_once) {
            Vu words[at_once][4];
#pragma GCC unroll 4
            for (int q = 0; q < at_once; ++q) {
#pragma GCC unroll 4
                for (int r = 0; r < 4; ++r)
                    words[q][r] = load_words(rows[4 * (first + q) + r] + offset + v * 4 * lanes);
                transpose_in_blocks(words[q]);
            }
#pragma GCC unroll 8
            for (int i = 0; i < 4 * per_word; ++i) {
                Vf values[Rows];
#pragma GCC unroll 4
                for (int m = 0; m < Rows; ++m) {
                    values[m] =
                        hn::TableLookupLanes(hn::LoadDup128(f, x + (i * Rows + m) * n_chains), chain_of_lane);
                }
#pragma GCC unroll 4
                for (int q = 0; q < at_once; ++q) {
                    const Vf w = Stored::element(words[q][i / per_word], i % per_word);
#pragma GCC unroll 4
                    for (int m = 0; m < Rows; ++m)
                        sums[m][first + q][v] = hn::MulAdd(values[m], w, sums[m][first + q][v]);
                }
            }
            HWY_FENCE;  // else the compiler keeps x in vectors for the next quads, and runs out of them
        }
    }
}

/// out_in, one tile: the sums stay in registers while cache lines of `lanes` rows pass.
template <class Stored, int Rows>
void DirectOutIn(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile& tile,
                 const OutputRows& y) {
    const Floats f;
    constexpr int64_t g = group<Stored>;
    constexpr int64_t step = n_chains * g;
    constexpr int64_t bytes = static_cast<int64_t>(sizeof(typename Stored::Bits));
    const int64_t region_bytes = lanes * weight.n_in * bytes;
    for (int64_t o = 0; o < n_out; o += lanes) {
        const LaneRows<Stored> source(weight, first_out + o);
        const int64_t width = std::min(lanes, n_out - o);
        for (int64_t begin = 0; begin < weight.n_in; begin += k_block) {
            const int64_t end = std::min(begin + k_block, weight.n_in);
            Vf sums[Rows][n_quads][line_vectors];
#pragma GCC unroll 4
            for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
                for (int q = 0; q < n_quads; ++q) {
#pragma GCC unroll 4
                    for (int v = 0; v < line_vectors; ++v)
                        sums[m][q][v] = hn::Zero(f);
                }
            }
            int64_t k = begin;
            for (; k + step <= end; k += step) {
                // The region of the next rows, in the order of its addresses, as memory is fastest.
                const uint8_t* next = source.rows[0] + region_bytes + k * bytes * lanes;
#pragma GCC unroll 16
                for (int64_t line = 0; line < lanes; ++line)
                    __builtin_prefetch(next + line * 64, 0, 2);
                AddLine<Stored, Rows>(source.rows, k * bytes, tile.x + k * Rows, sums);
            }
            for (int m = 0; m < Rows; ++m) {
                HWY_ALIGN float chains[n_chains][lanes];  // [chain][row of weights]
                for (int q = 0; q < n_quads; ++q) {
                    for (int v = 0; v < line_vectors; ++v) {
                        HWY_ALIGN float blocks[lanes];
                        hn::Store(sums[m][q][v], f, blocks);
                        for (int b = 0; b < n_quads; ++b)
                            std::copy_n(blocks + 4 * b, 4, chains[v * n_quads + b] + 4 * q);
                    }
                }
                for (int64_t i = k; i < end; ++i) {
                    const int64_t c = (i - begin) / g % n_chains;
                    const float value = tile.x[packed_index(i, m, Rows, weight.dtype)];
                    for (int64_t r = 0; r < lanes; ++r) {
                        typename Stored::Bits bits;
                        std::memcpy(&bits, source.rows[r] + i * bytes, sizeof(bits));
                        chains[c][r] = multiply_add_one(value, Stored::widen(bits), chains[c][r]);
                    }
                }
                float* out = y.row(tile.first_row + m) + o;
                for (int64_t c = 0; c < n_chains; ++c) {
                    for (int64_t r = 0; r < width; ++r)
                        out[r] += chains[c][r];
                }
            }
        }
    }
}

/// `Steps` rows of an in_out matrix, one group, into the sums [Rows][n_out] of their chain: long sequential
/// reads.
template <class Stored, int Rows, int Steps>
void AddRows(const typename Stored::Bits* HWY_RESTRICT weights, int64_t row_stride,
             const float* HWY_RESTRICT x, int64_t n_out, float* HWY_RESTRICT sums, int64_t sums_stride) {
    const Floats f;
    constexpr int64_t per_line = 64 / static_cast<int64_t>(sizeof(*weights));
    constexpr int64_t vectors = per_line / lanes;
    int64_t o = 0;
    for (; o + vectors * lanes <= n_out; o += vectors * lanes) {
        Vf sum[Rows][vectors];
        if constexpr (Steps > 1) {
            // The rows after the next ones, in the order of their addresses, as memory is fastest.
            const int64_t line = o / per_line * Steps;
            const int64_t lines_in_row = std::max<int64_t>(n_out / per_line, 1);
            const auto* next =
                weights + (2 * Steps + line / lines_in_row) * row_stride + line % lines_in_row * per_line;
#pragma GCC unroll 8
            for (int i = 0; i < Steps; ++i)
                __builtin_prefetch(next + i * per_line, 0, 2);
        }
#pragma GCC unroll 4
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v)
                sum[m][v] = hn::Load(f, sums + m * sums_stride + o + v * lanes);
        }
#pragma GCC unroll 8
        for (int i = 0; i < Steps; ++i) {
            const typename Stored::Bits* line = weights + i * row_stride + o;
            Vf w[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v)
                w[v] = Stored::load(line + v * lanes);
#pragma GCC unroll 4
            for (int m = 0; m < Rows; ++m) {
                const Vf value = hn::Set(f, x[(i * Rows + m) * n_chains]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v)
                    sum[m][v] = hn::MulAdd(value, w[v], sum[m][v]);
            }
        }
#pragma GCC unroll 4
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v)
                hn::Store(sum[m][v], f, sums + m * sums_stride + o + v * lanes);
        }
    }
    for (; o < n_out; ++o) {
        for (int m = 0; m < Rows; ++m) {
            float& sum = sums[m * sums_stride + o];
            for (int i = 0; i < Steps; ++i) {
                const float w = Stored::widen(weights[i * row_stride + o]);
                sum = multiply_add_one(x[(i * Rows + m) * n_chains], w, sum);
            }
        }
    }
}

/// in_out, one tile: the sums of a strip of outputs lie in the first-level cache while rows of weights pass.
template <class Stored, int Rows>
void DirectInOut(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile& tile,
                 const OutputRows& y, float* HWY_RESTRICT sums) {
    constexpr int64_t g = group<Stored>;
    constexpr int64_t strip = 2048 / Rows / 64 * 64;  // 32 KiB of sums
    for (int64_t o = 0; o < n_out; o += strip) {
        const int64_t width = std::min(strip, n_out - o);
        const auto* weights = static_cast<const typename Stored::Bits*>(weight.data) + first_out + o;
        for (int64_t begin = 0; begin < weight.n_in; begin += k_block) {
            const int64_t end = std::min(begin + k_block, weight.n_in);
            std::fill_n(sums, n_chains * Rows * strip, 0.0f);  // [chain][row][output]
            int64_t k = begin;
            for (; k + g <= end; k += g) {
                const int64_t c = k / g % n_chains;
                AddRows<Stored, Rows, g>(weights + k * weight.n_out, weight.n_out,
                                         tile.x + packed_index(k, 0, Rows, weight.dtype), width,
                                         sums + c * Rows * strip, strip);
            }
            for (; k < end; ++k) {
                const int64_t c = k / g % n_chains;
                AddRows<Stored, Rows, 1>(weights + k * weight.n_out, weight.n_out,
                                         tile.x + packed_index(k, 0, Rows, weight.dtype), width,
                                         sums + c * Rows * strip, strip);
            }
            for (int m = 0; m < Rows; ++m) {
                float* HWY_RESTRICT out = y.row(tile.first_row + m) + o;
                for (int64_t c = 0; c < n_chains; ++c) {
                    const float* HWY_RESTRICT chain = sums + (c * Rows + m) * strip;
                    for (int64_t j = 0; j < width; ++j)
                        out[j] += chain[j];
                }
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

#endif  // HWY_TARGET != HWY_SCALAR

template <class Stored>
void Multiply(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles, int64_t n_tiles,
              const OutputRows& y, device::Stream& stream, int thread, float* scratch) {
#if HWY_TARGET != HWY_SCALAR
    if (n_tiles == 1) {
        switch (tiles->n_rows) {
            case 1:
                return MultiplyDirectly<Stored, 1>(weight, first_out, n_out, *tiles, y, scratch);
            case 2:
                return MultiplyDirectly<Stored, 2>(weight, first_out, n_out, *tiles, y, scratch);
            case 3:
                return MultiplyDirectly<Stored, 3>(weight, first_out, n_out, *tiles, y, scratch);
            case 4:
                return MultiplyDirectly<Stored, 4>(weight, first_out, n_out, *tiles, y, scratch);
            default:
                break;
        }
    }
#endif
    MultiplyByPanels<Stored>(weight, first_out, n_out, tiles, n_tiles, y, stream, thread, scratch);
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

/// Groups of the four chains become lines of one element of each chain: 4 x 4 transposes.
void PackRows(const float* x, int64_t stride, const int32_t* rows, int64_t first_row, int64_t n_rows,
              int64_t n_in, DType dtype, float* packed) {
    const auto source = [&](int64_t m) {
        return x + (rows != nullptr ? rows[first_row + m] : first_row + m) * stride;
    };
    int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
    static_assert(n_chains == 4);
    const hn::FixedTag<float, 4> f;
    const hn::RepartitionToWide<decltype(f)> pairs;
    const int64_t group = group_size(dtype);
    for (; k + n_chains * group <= n_in; k += n_chains * group) {
        for (int64_t m = 0; m < n_rows; ++m) {
            const float* from = source(m) + k;
            float* to = packed + packed_index(k, m, n_rows, dtype);
            for (int64_t i = 0; i < group; i += 4) {
                const auto a = hn::LoadU(f, from + i);
                const auto b = hn::LoadU(f, from + group + i);
                const auto c = hn::LoadU(f, from + 2 * group + i);
                const auto d = hn::LoadU(f, from + 3 * group + i);
                const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(f, a, b));
                const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(f, a, b));
                const auto cd_low = hn::BitCast(pairs, hn::InterleaveLower(f, c, d));
                const auto cd_high = hn::BitCast(pairs, hn::InterleaveUpper(f, c, d));
                float* line = to + i * n_rows * n_chains;
                const int64_t step = n_rows * n_chains;
                hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pairs, ab_low, cd_low)), f, line);
                hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pairs, ab_low, cd_low)), f, line + step);
                hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pairs, ab_high, cd_high)), f, line + 2 * step);
                hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pairs, ab_high, cd_high)), f, line + 3 * step);
            }
        }
    }
#endif
    for (; k < n_in; ++k) {
        for (int64_t m = 0; m < n_rows; ++m)
            packed[packed_index(k, m, n_rows, dtype)] = source(m)[k];
    }
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mixserve::kernels {

HWY_EXPORT(MaxTileRows);
HWY_EXPORT(MultiplyAdd);
HWY_EXPORT(PackRows);

int64_t max_tile_rows() {
    return HWY_DYNAMIC_DISPATCH(MaxTileRows)();
}

int64_t n_row_tiles(int64_t n_rows) {
    const int64_t most = max_tile_rows();
    return (n_rows + most - 1) / most;
}

void pack_rows(const float* x, int64_t stride, const int32_t* rows, int64_t first_row, int64_t n_rows,
               int64_t n_in, DType dtype, float* packed) {
    HWY_DYNAMIC_DISPATCH(PackRows)(x, stride, rows, first_row, n_rows, n_in, dtype, packed);
}

void multiply_add(const Weight& weight, int64_t first_out, int64_t n_out, const RowTile* tiles,
                  int64_t n_tiles, const OutputRows& y, device::Stream& stream, int thread,
                  std::byte* scratch) {
    HWY_DYNAMIC_DISPATCH(MultiplyAdd)
    (weight, first_out, n_out, tiles, n_tiles, y, stream, thread, reinterpret_cast<float*>(scratch));
}

}  // namespace mixserve::kernels
#endif  // HWY_ONCE
