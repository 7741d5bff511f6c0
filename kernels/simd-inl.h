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

// The stored types. `expand` takes four vectors, each with one 32-bit word of every row: words i of the rows
// in t[i]; and gives a vector for each element, in order.

struct StoredF32 {
    using Bits = float;
    static constexpr int per_quad = 4;
    static HWY_INLINE void expand(const Vu (&t)[4], Vf (&out)[4]) {
        for (int i = 0; i < 4; ++i)
            out[i] = hn::BitCast(Floats(), t[i]);
    }
    static HWY_INLINE Vf load(const Bits* p) { return hn::LoadU(Floats(), p); }
    static HWY_INLINE float widen(Bits value) { return value; }
};

struct StoredBf16 {
    using Bits = uint16_t;
    static constexpr int per_quad = 8;
    static HWY_INLINE void expand(const Vu (&t)[4], Vf (&out)[8]) {
        const Vu upper = hn::Set(Words(), 0xffff0000u);
        for (int i = 0; i < 4; ++i) {
            out[2 * i] = hn::BitCast(Floats(), hn::ShiftLeft<16>(t[i]));
            out[2 * i + 1] = hn::BitCast(Floats(), hn::And(t[i], upper));
        }
    }
    static HWY_INLINE Vf load(const Bits* p) {
        return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), hn::LoadU(Halves(), p))));
    }
    static HWY_INLINE float widen(Bits value) { return bf16_to_f32(value); }
};

struct StoredF16 {
    using Bits = uint16_t;
    static constexpr int per_quad = 8;
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
    static HWY_INLINE void expand(const Vu (&t)[4], Vf (&out)[8]) {
        const Vu lower = hn::Set(Words(), 0xffffu);
        for (int i = 0; i < 4; ++i) {
            out[2 * i] = from_half(hn::And(t[i], lower));
            out[2 * i + 1] = from_half(hn::ShiftRight<16>(t[i]));
        }
    }
    static HWY_INLINE Vf load(const Bits* p) {
        return from_half(hn::PromoteTo(Words(), hn::LoadU(Halves(), p)));
    }
    static HWY_INLINE float widen(Bits value) { return f16_to_f32(value); }
};

#if HWY_TARGET == HWY_SCALAR

template <class Stored>
HWY_INLINE void load_columns(const uint8_t* const* rows, int64_t offset, Vf (&out)[Stored::per_quad]) {
    typename Stored::Bits bits[Stored::per_quad];
    std::memcpy(bits, rows[0] + offset, sizeof(bits));
    for (int i = 0; i < Stored::per_quad; ++i)
        out[i] = hn::Set(Floats(), Stored::widen(bits[i]));
}

#else

/// 16 bytes at `offset` of the rows r, r + 4, r + 8, ..: one 128-bit block each.
HWY_INLINE Vu load_quads(const uint8_t* const* rows, int r, int64_t offset) {
    const hn::Full128<uint32_t> quad;
    const auto block = [&](int i) HWY_ATTR {
        return hn::LoadU(quad, reinterpret_cast<const uint32_t*>(rows[r + 4 * i] + offset));
    };
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
    const hn::Full256<uint32_t> half;
    return hn::Combine(Words(), hn::Combine(half, block(3), block(2)), hn::Combine(half, block(1), block(0)));
#elif HWY_TARGET == HWY_AVX2
    return hn::Combine(Words(), block(1), block(0));
#else
    return block(0);
#endif
}

/// 16 bytes at `offset` of each of `lanes` rows, transposed and widened: out[i] holds element i of every row.
template <class Stored>
HWY_INLINE void load_columns(const uint8_t* const* rows, int64_t offset, Vf (&out)[Stored::per_quad]) {
    const Words u;
    const hn::Repartition<uint64_t, Words> pairs;
    const Vu r0 = load_quads(rows, 0, offset);
    const Vu r1 = load_quads(rows, 1, offset);
    const Vu r2 = load_quads(rows, 2, offset);
    const Vu r3 = load_quads(rows, 3, offset);
    const auto lower01 = hn::BitCast(pairs, hn::InterleaveLower(u, r0, r1));
    const auto upper01 = hn::BitCast(pairs, hn::InterleaveUpper(u, r0, r1));
    const auto lower23 = hn::BitCast(pairs, hn::InterleaveLower(u, r2, r3));
    const auto upper23 = hn::BitCast(pairs, hn::InterleaveUpper(u, r2, r3));
    const Vu t[4] = {
        hn::BitCast(u, hn::InterleaveLower(pairs, lower01, lower23)),
        hn::BitCast(u, hn::InterleaveUpper(pairs, lower01, lower23)),
        hn::BitCast(u, hn::InterleaveLower(pairs, upper01, upper23)),
        hn::BitCast(u, hn::InterleaveUpper(pairs, upper01, upper23)),
    };
    Stored::expand(t, out);
}

#endif

/// Columns [first, first + n) of `lanes` rows -> panel[i * panel_width] (lanes floats each).
template <class Stored>
HWY_INLINE void widen_rows(const uint8_t* const* rows, int64_t first, int64_t n, float* HWY_RESTRICT panel) {
    constexpr int64_t step = Stored::per_quad;
    constexpr int64_t bytes = static_cast<int64_t>(sizeof(typename Stored::Bits));
    int64_t i = 0;
    for (; i + step <= n; i += step) {
        Vf columns[step];
        load_columns<Stored>(rows, (first + i) * bytes, columns);
        for (int64_t j = 0; j < step; ++j)
            hn::StoreU(columns[j], Floats(), panel + (i + j) * panel_width);
    }
    for (; i < n; ++i) {
        for (int64_t r = 0; r < lanes; ++r) {
            typename Stored::Bits bits;
            std::memcpy(&bits, rows[r] + (first + i) * bytes, sizeof(bits));
            panel[i * panel_width + r] = Stored::widen(bits);
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
