#include "kernels/logits.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#define HWY_TARGET_INCLUDE "kernels/logits.cpp"
// clang-format off: this one has to come first
#include <hwy/foreach_target.h>
// clang-format on
#include <hwy/contrib/math/math-inl.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

LogitsLook LookAt(const float* HWY_RESTRICT logits, int64_t n) {
    const Floats f;
    const Vf least = hn::Set(f, -std::numeric_limits<float>::infinity());
    Vf largest = least;
    int64_t n_finite = 0;
    const auto look = [&](Vf v) HWY_ATTR {
        largest = hn::Max(largest, hn::IfThenElse(hn::IsNaN(v), least, v));
        n_finite += static_cast<int64_t>(hn::CountTrue(f, hn::IsFinite(v)));
    };
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        look(hn::LoadU(f, logits + i));
    if (i < n) {
        HWY_ALIGN float rest[lanes];
        std::fill_n(rest, lanes, -std::numeric_limits<float>::infinity());
        std::copy(logits + i, logits + n, rest);
        look(hn::Load(f, rest));
    }
    return {hn::GetLane(hn::MaxOfLanes(f, largest)), n - n_finite};
}

/// Adds weights [n] to sixteen chains (index modulo 16): one order for every width of vectors.
constexpr int64_t n_chains = 16;
HWY_INLINE void AddToChains(const float* HWY_RESTRICT weights, int64_t n, double* HWY_RESTRICT chains) {
    const hn::CappedTag<double, 8> d;
    const hn::Rebind<float, decltype(d)> half;
    constexpr int64_t width = static_cast<int64_t>(hn::MaxLanes(d));
    constexpr int64_t n_vectors = n_chains / width;
    hn::Vec<decltype(d)> sums[n_vectors];
    for (int64_t v = 0; v < n_vectors; ++v)
        sums[v] = hn::LoadU(d, chains + v * width);
    for (int64_t i = 0; i < n; i += n_chains) {
        for (int64_t v = 0; v < n_vectors; ++v)
            sums[v] = hn::Add(sums[v], hn::PromoteTo(d, hn::LoadU(half, weights + i + v * width)));
    }
    for (int64_t v = 0; v < n_vectors; ++v)
        hn::StoreU(sums[v], d, chains + v * width);
}

double SumOfExp(const float* HWY_RESTRICT logits, int64_t n, float largest, float scale, float lowest,
                float* HWY_RESTRICT weights) {
    constexpr int64_t n_together = 256;
    const Floats f;
    const Vf largest_v = hn::Set(f, largest);
    const Vf scale_v = hn::Set(f, scale);
    const Vf lowest_v = hn::Set(f, lowest);
    const Vf least = hn::Set(f, -87.0f);
    const auto weight_of = [&](Vf logit) HWY_ATTR {
        const Vf x = hn::Mul(hn::Sub(logit, largest_v), scale_v);
        const auto counts = hn::And(hn::Ge(logit, lowest_v), hn::Ge(x, least));
        return hn::IfThenElseZero(counts, hn::Exp(f, hn::Max(x, least)));
    };
    HWY_ALIGN float some[n_together];
    HWY_ALIGN double chains[n_chains] = {};
    for (int64_t first = 0; first < n; first += n_together) {
        const int64_t n_here = std::min(n_together, n - first);
        int64_t i = 0;
        for (; i + lanes <= n_here; i += lanes)
            hn::Store(weight_of(hn::LoadU(f, logits + first + i)), f, some + i);
        if (i < n_here) {
            HWY_ALIGN float rest[lanes];
            std::fill_n(rest, lanes, -std::numeric_limits<float>::infinity());
            std::copy(logits + first + i, logits + n, rest);
            hn::Store(weight_of(hn::Load(f, rest)), f, some + i);
            i += lanes;
        }
        const int64_t n_padded = (n_here + n_chains - 1) / n_chains * n_chains;
        for (; i < n_padded; i += lanes)
            hn::Store(hn::Zero(f), f, some + i);
        AddToChains(some, n_padded, chains);
        if (weights != nullptr) std::copy_n(some, n_here, weights + first);
    }
    for (int64_t half = n_chains / 2; half > 0; half /= 2) {
        for (int64_t j = 0; j < half; ++j)
            chains[j] += chains[j + half];
    }
    return chains[0];
}

int64_t IndicesAtLeast(const float* HWY_RESTRICT values, int64_t n, float bound,
                       int32_t* HWY_RESTRICT indices) {
    const Floats f;
    const hn::RebindToSigned<Floats> s;
    const Vf bound_v = hn::Set(f, bound);
    int64_t n_found = 0;
    int64_t i = 0;
    // A whole vector is stored, at a place that is not behind that of its values. Not by CompressStore, which
    // takes a hundred cycles and more on AMD's cores with 512 bits.
    for (; i + lanes <= n; i += lanes) {
        const auto found = hn::RebindMask(s, hn::Ge(hn::LoadU(f, values + i), bound_v));
        hn::StoreU(hn::Compress(hn::Iota(s, static_cast<int32_t>(i)), found), s, indices + n_found);
        n_found += static_cast<int64_t>(hn::CountTrue(s, found));
    }
    for (; i < n; ++i) {
        if (values[i] >= bound) indices[n_found++] = static_cast<int32_t>(i);
    }
    return n_found;
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mixserve::kernels {

HWY_EXPORT(LookAt);
HWY_EXPORT(SumOfExp);
HWY_EXPORT(IndicesAtLeast);

LogitsLook look_at(std::span<const float> logits) {
    return HWY_DYNAMIC_DISPATCH(LookAt)(logits.data(), static_cast<int64_t>(logits.size()));
}

double sum_of_exp(std::span<const float> logits, float largest, float scale, float lowest, float* weights) {
    return HWY_DYNAMIC_DISPATCH(SumOfExp)(logits.data(), static_cast<int64_t>(logits.size()), largest, scale,
                                          lowest, weights);
}

int64_t indices_at_least(std::span<const float> values, float bound, int32_t* indices) {
    return HWY_DYNAMIC_DISPATCH(IndicesAtLeast)(values.data(), static_cast<int64_t>(values.size()), bound,
                                                indices);
}

}  // namespace mixserve::kernels
#endif
