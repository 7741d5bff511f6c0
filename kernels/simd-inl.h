// Vector code shared by the kernels, compiled once for each target of Highway's run-time dispatch: include it
// inside a file that foreach_target.h includes again and again.

#if defined(MIXSERVE_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIXSERVE_KERNELS_SIMD_INL_H_
#undef MIXSERVE_KERNELS_SIMD_INL_H_
#else
#define MIXSERVE_KERNELS_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Words = hn::RebindToUnsigned<Floats>;
using Halves = hn::Rebind<uint16_t, Floats>;
using Vf = hn::Vec<Floats>;
using Vu = hn::Vec<Words>;

/// Lanes of a vector: 4, 8 or 16.
constexpr int64_t lanes = static_cast<int64_t>(hn::MaxLanes(Floats()));
/// Outputs of a widened panel of weights.
constexpr int64_t panel_width = 2 * lanes;
/// Rows of x whose sums fit the registers beside one panel.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
constexpr int max_tile_rows = 12;
#else
constexpr int max_tile_rows = 6;
#endif

// The stored types. `element` widens one of the `per_word` elements of 32-bit words.

struct StoredF32 {
    using Bits = float;
    static constexpr int per_word = 1;
    static HWY_INLINE Vf element(Vu words, int) { return hn::BitCast(Floats(), words); }
    static HWY_INLINE Vf load(const Bits* p) { return hn::LoadU(Floats(), p); }
    static HWY_INLINE float widen(Bits value) { return value; }
};

struct StoredBf16 {
    using Bits = uint16_t;
    static constexpr int per_word = 2;
    static HWY_INLINE Vf element(Vu words, int i) {
        return hn::BitCast(Floats(),
                           i == 0 ? hn::ShiftLeft<16>(words) : hn::And(words, hn::Set(Words(), 0xffff0000u)));
    }
    static HWY_INLINE Vf load(const Bits* p) {
        return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), hn::LoadU(Halves(), p))));
    }
    static HWY_INLINE float widen(Bits value) { return bf16_to_f32(value); }
};

struct StoredF16 {
    using Bits = uint16_t;
    static constexpr int per_word = 2;
    /// `half`: f16 bits in the low 16 bits of each lane. The exponent is moved by a product with 2^112, which
    /// is exact for subnormals too; infinities and NaN get their exponent back.
    static HWY_INLINE Vf from_half(Vu half) {
        const Words u;
        const Floats f;
        const Vu magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(u, 0x7fffu)));
        const Vf scaled = hn::Mul(hn::BitCast(f, magnitude), hn::Set(f, 0x1p112f));
        const auto special = hn::Gt(hn::BitCast(hn::RebindToSigned<Floats>(), magnitude),
                                    hn::Set(hn::RebindToSigned<Floats>(), (0x7c00 << 13) - 1));
        const Vu infinite = hn::IfThenElseZero(hn::RebindMask(u, special), hn::Set(u, 0x7f800000u));
        const Vu sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(u, 0x8000u)));
        return hn::BitCast(f, hn::Or(hn::Or(hn::BitCast(u, scaled), infinite), sign));
    }
    static HWY_INLINE Vf element(Vu words, int i) {
        return from_half(i == 0 ? hn::And(words, hn::Set(Words(), 0xffffu)) : hn::ShiftRight<16>(words));
    }
    static HWY_INLINE Vf load(const Bits* p) {
        return from_half(hn::PromoteTo(Words(), hn::LoadU(Halves(), p)));
    }
    static HWY_INLINE float widen(Bits value) { return f16_to_f32(value); }
};

/// A vector of words at any address. Held in a register: GCC 12 would store what it loaded for two shuffles
/// to the stack, and use it from there.
HWY_INLINE Vu load_words(const uint8_t* p) {
    Vu v = hn::LoadU(Words(), reinterpret_cast<const uint32_t*>(p));
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
    asm("" : "+v"(v.raw));
#elif HWY_TARGET == HWY_AVX2
    asm("" : "+x"(v.raw));
#endif
    return v;
}

/// Bytes of each row that for_columns() reads at a time. With 512 bits it is a cache line: rows often lie a
/// power of two apart, all in one set of the cache, so that a line does not last until its second use.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr int column_bytes = 64;
#else
constexpr int column_bytes = 16;
#endif
template <class Stored>
constexpr int columns_at_once = column_bytes / static_cast<int>(sizeof(typename Stored::Bits));

#if HWY_TARGET != HWY_SCALAR
/// Four vectors, a row in each 128-bit block: words i of the four rows to v[i].
HWY_INLINE void transpose_in_blocks(Vu (&v)[4]) {
    const Words u;
    const hn::Repartition<uint64_t, Words> pairs;
    const auto lower01 = hn::BitCast(pairs, hn::InterleaveLower(u, v[0], v[1]));
    const auto upper01 = hn::BitCast(pairs, hn::InterleaveUpper(u, v[0], v[1]));
    const auto lower23 = hn::BitCast(pairs, hn::InterleaveLower(u, v[2], v[3]));
    const auto upper23 = hn::BitCast(pairs, hn::InterleaveUpper(u, v[2], v[3]));
    v[0] = hn::BitCast(u, hn::InterleaveLower(pairs, lower01, lower23));
    v[1] = hn::BitCast(u, hn::InterleaveUpper(pairs, lower01, lower23));
    v[2] = hn::BitCast(u, hn::InterleaveLower(pairs, upper01, upper23));
    v[3] = hn::BitCast(u, hn::InterleaveUpper(pairs, upper01, upper23));
}

/// Blocks of the rows r, r + 4, r + 8, .. in v[r], r = 0..3, to `use(i, w)` for each element i of a block,
/// w[row] the element of that row.
template <class Stored, class Use>
HWY_INLINE void use_block(Vu (&v)[4], int first, const Use& use) {
    transpose_in_blocks(v);
#pragma GCC unroll 8
    for (int i = 0; i < 4 * Stored::per_word; ++i)
        use(first + i, Stored::element(v[i / Stored::per_word], i % Stored::per_word));
}
#endif

/// `column_bytes` bytes at `offset` of each of `lanes` rows, transposed and widened: `use(i, v)` for each
/// element i in rising order, v[row] the element of that row.
template <class Stored, class Use>
HWY_INLINE void for_columns(const uint8_t* const* rows, int64_t offset, const Use& use) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
    const auto row = [&](int r) HWY_ATTR { return load_words(rows[r] + offset).raw; };
    Vu blocks[4][4];  // [block of 16 bytes][row modulo 4]
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
        const __m512i r0 = row(r);
        const __m512i r4 = row(r + 4);
        const __m512i r8 = row(r + 8);
        const __m512i r12 = row(r + 12);
        const __m512i lower0 = _mm512_shuffle_i32x4(r0, r4, 0x44);
        const __m512i upper0 = _mm512_shuffle_i32x4(r0, r4, 0xee);
        const __m512i lower8 = _mm512_shuffle_i32x4(r8, r12, 0x44);
        const __m512i upper8 = _mm512_shuffle_i32x4(r8, r12, 0xee);
        blocks[0][r] = Vu{_mm512_shuffle_i32x4(lower0, lower8, 0x88)};
        blocks[1][r] = Vu{_mm512_shuffle_i32x4(lower0, lower8, 0xdd)};
        blocks[2][r] = Vu{_mm512_shuffle_i32x4(upper0, upper8, 0x88)};
        blocks[3][r] = Vu{_mm512_shuffle_i32x4(upper0, upper8, 0xdd)};
    }
#pragma GCC unroll 4
    for (int b = 0; b < 4; ++b)
        use_block<Stored>(blocks[b], 4 * b * Stored::per_word, use);
#elif HWY_TARGET == HWY_SCALAR
    for (int i = 0; i < columns_at_once<Stored>; ++i) {
        typename Stored::Bits bits;
        std::memcpy(&bits, rows[0] + offset + i * static_cast<int>(sizeof(bits)), sizeof(bits));
        use(i, hn::Set(Floats(), Stored::widen(bits)));
    }
#else
    const hn::Full128<uint32_t> quad;
    const auto load = [&](int r) HWY_ATTR {
        const auto lower = hn::LoadU(quad, reinterpret_cast<const uint32_t*>(rows[r] + offset));
#if HWY_TARGET == HWY_AVX2
        return hn::Combine(Words(), hn::LoadU(quad, reinterpret_cast<const uint32_t*>(rows[r + 4] + offset)),
                           lower);
#else
        return lower;
#endif
    };
    Vu block[4] = {load(0), load(1), load(2), load(3)};
    use_block<Stored>(block, 0, use);
#endif
}

/// Columns [first, first + n) of `lanes` rows, `lanes` floats each: column i + j to panel[place(i, j) *
/// panel_width], where i is a multiple of columns_at_once or j is 0.
template <class Stored, class Place>
HWY_INLINE void widen_rows(const uint8_t* const* rows, int64_t first, int64_t n, float* HWY_RESTRICT panel,
                           const Place& place) {
    constexpr int64_t step = columns_at_once<Stored>;
    constexpr int64_t bytes = static_cast<int64_t>(sizeof(typename Stored::Bits));
    int64_t i = 0;
    for (; i + step <= n; i += step) {
        for_columns<Stored>(rows, (first + i) * bytes, [&](int j, Vf v) HWY_ATTR {
            hn::StoreU(v, Floats(), panel + place(i, j) * panel_width);
        });
    }
    for (; i < n; ++i) {
        for (int64_t r = 0; r < lanes; ++r) {
            typename Stored::Bits bits;
            std::memcpy(&bits, rows[r] + (first + i) * bytes, sizeof(bits));
            panel[place(i, 0) * panel_width + r] = Stored::widen(bits);
        }
    }
}

/// `n` <= panel_width neighbours of one row -> panel_width floats, zeros behind them.
template <class Stored>
HWY_INLINE void widen_row(const typename Stored::Bits* row, int64_t n, float* HWY_RESTRICT panel) {
    if (n == panel_width) {
        hn::StoreU(Stored::load(row), Floats(), panel);
        hn::StoreU(Stored::load(row + lanes), Floats(), panel + lanes);
        return;
    }
    for (int64_t i = 0; i < panel_width; ++i)
        panel[i] = i < n ? Stored::widen(row[i]) : 0.0f;
}

/// acc + x * w as MulAdd does it on vectors.
HWY_INLINE float multiply_add_one(float x, float w, float acc) {
    const hn::CappedTag<float, 1> one;
    return hn::GetLane(hn::MulAdd(hn::Set(one, x), hn::Set(one, w), hn::Set(one, acc)));
}

/// The sums over a panel [n][panel_width] for `Rows` rows of x, element k of row m at x[m * row_stride + k *
/// k_stride]: for each output one chain of fused products in rising k, from zero.
template <int Rows>
HWY_INLINE void sum_panel(const float* HWY_RESTRICT x, int64_t row_stride, int64_t k_stride,
                          const float* HWY_RESTRICT panel, int64_t n, Vf (&sums)[Rows][2]) {
    const Floats f;
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m)
        sums[m][0] = sums[m][1] = hn::Zero(f);
    for (int64_t k = 0; k < n; ++k) {
        const Vf w0 = hn::LoadU(f, panel + k * panel_width);
        const Vf w1 = hn::LoadU(f, panel + k * panel_width + lanes);
#pragma GCC unroll 16
        for (int m = 0; m < Rows; ++m) {
            const Vf value = hn::Set(f, x[m * row_stride + k * k_stride]);
            sums[m][0] = hn::MulAdd(value, w0, sums[m][0]);
            sums[m][1] = hn::MulAdd(value, w1, sums[m][1]);
        }
    }
}

/// y[i] += sums[i], i < n <= panel_width.
HWY_INLINE void add_sums(const Vf (&sums)[2], int64_t n, float* HWY_RESTRICT y) {
    const Floats f;
    if (n == panel_width) {
        hn::StoreU(hn::Add(hn::LoadU(f, y), sums[0]), f, y);
        hn::StoreU(hn::Add(hn::LoadU(f, y + lanes), sums[1]), f, y + lanes);
        return;
    }
    HWY_ALIGN float values[panel_width];
    hn::Store(sums[0], f, values);
    hn::Store(sums[1], f, values + lanes);
    for (int64_t i = 0; i < n; ++i)
        y[i] += values[i];
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
