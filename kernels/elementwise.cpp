#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/launch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#define HWY_TARGET_INCLUDE "kernels/elementwise.cpp"
// clang-format off: this one has to come first
#include <hwy/foreach_target.h>
// clang-format on
#include <hwy/contrib/math/math-inl.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mixserve::kernels::HWY_NAMESPACE {

/// Sum of squares in sixteen chains (index modulo 16), added as a tree: one order for every width of vectors.
HWY_INLINE float SumOfSquares(const float* HWY_RESTRICT x, int64_t n) {
    constexpr int64_t n_chains = 16;
    constexpr int64_t n_vectors = n_chains / lanes;
    const Floats f;
    Vf sums[n_vectors];
    for (int64_t v = 0; v < n_vectors; ++v)
        sums[v] = hn::Zero(f);
    int64_t i = 0;
    for (; i + n_chains <= n; i += n_chains) {
        for (int64_t v = 0; v < n_vectors; ++v) {
            const Vf value = hn::LoadU(f, x + i + v * lanes);
            sums[v] = hn::MulAdd(value, value, sums[v]);
        }
    }
    HWY_ALIGN float rest[n_chains] = {};
    std::copy_n(x + i, n - i, rest);
    HWY_ALIGN float chains[n_chains];
    for (int64_t v = 0; v < n_vectors; ++v) {
        const Vf value = hn::Load(f, rest + v * lanes);
        hn::Store(hn::MulAdd(value, value, sums[v]), f, chains + v * lanes);
    }
    for (int64_t half = n_chains / 2; half > 0; half /= 2) {
        for (int64_t j = 0; j < half; ++j)
            chains[j] += chains[j + half];
    }
    return chains[0];
}

void RmsNormRow(const float* x, int64_t width, const float* HWY_RESTRICT weight, float epsilon, float* out) {
    const float scale = 1.0f / std::sqrt(SumOfSquares(x, width) / static_cast<float>(width) + epsilon);
    const Floats f;
    const Vf scales = hn::Set(f, scale);
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes)
        hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(f, x + i), scales), hn::LoadU(f, weight + i)), f, out + i);
    for (; i < width; ++i)
        out[i] = x[i] * scale * weight[i];
}

/// Highway's exponential does not hold beyond the largest float; at -88 silu is below 1e-36 already.
HWY_INLINE Vf Silu(Vf v) {
    const Floats f;
    const Vf exponential = hn::Exp(f, hn::Min(hn::Neg(v), hn::Set(f, 88.0f)));
    return hn::Div(v, hn::Add(hn::Set(f, 1.0f), exponential));
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
    const Floats f;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        hn::StoreU(hn::Mul(Silu(hn::LoadU(f, gate + i)), hn::LoadU(f, up + i)), f, out + i);
    if (i == n) return;
    HWY_ALIGN float a[lanes] = {};
    HWY_ALIGN float b[lanes] = {};
    std::copy_n(gate + i, n - i, a);
    std::copy_n(up + i, n - i, b);
    hn::Store(hn::Mul(Silu(hn::Load(f, a)), hn::Load(f, b)), f, a);
    std::copy_n(a, n - i, out + i);
}

void RotateRow(float* HWY_RESTRICT x, int64_t n_heads, int64_t head_dim, const float* HWY_RESTRICT cos,
               const float* HWY_RESTRICT sin) {
    const Floats f;
    const int64_t half = head_dim / 2;
    for (int64_t head = 0; head < n_heads; ++head) {
        float* HWY_RESTRICT lower = x + head * head_dim;
        float* HWY_RESTRICT upper = lower + half;
        int64_t i = 0;
        for (; i + lanes <= half; i += lanes) {
            const Vf a = hn::LoadU(f, lower + i);
            const Vf b = hn::LoadU(f, upper + i);
            const Vf c = hn::LoadU(f, cos + i);
            const Vf s = hn::LoadU(f, sin + i);
            hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), f, lower + i);
            hn::StoreU(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), f, upper + i);
        }
        for (; i < half; ++i) {
            const float a = lower[i];
            const float b = upper[i];
            lower[i] = a * cos[i] - b * sin[i];
            upper[i] = b * cos[i] + a * sin[i];
        }
    }
}

void Add(const float* HWY_RESTRICT x, int64_t n, float* HWY_RESTRICT y) {
    const Floats f;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        hn::StoreU(hn::Add(hn::LoadU(f, y + i), hn::LoadU(f, x + i)), f, y + i);
    for (; i < n; ++i)
        y[i] += x[i];
}

void AddScaled(const float* HWY_RESTRICT x, float scale, int64_t n, float* HWY_RESTRICT y) {
    const Floats f;
    const Vf scales = hn::Set(f, scale);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        hn::StoreU(hn::Add(hn::LoadU(f, y + i), hn::Mul(scales, hn::LoadU(f, x + i))), f, y + i);
    for (; i < n; ++i)
        y[i] += scale * x[i];
}

}  // namespace mixserve::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mixserve::kernels {

HWY_EXPORT(RmsNormRow);
HWY_EXPORT(SiluMul);
HWY_EXPORT(RotateRow);
HWY_EXPORT(Add);
HWY_EXPORT(AddScaled);

namespace {

/// Values that one task works on: less than this is done where it is.
constexpr int64_t task_values = 1 << 14;

/// `body(first, last)` over [0, n) items of `width` values each, in tasks of about task_values.
template <class Body>
void for_items(int64_t n, int64_t width, device::Stream& stream, const Body& body) {
    const int64_t items = std::max<int64_t>(1, task_values / std::max<int64_t>(width, 1));
    stream.parallel_for((n + items - 1) / items,
                        [&](int64_t task, int) { body(task * items, std::min((task + 1) * items, n)); });
}

/// Sum of squares in eight interleaved double chains: the order depends on `n` alone.
double sum_in_doubles(const float* x, int64_t n) {
    double chains[8] = {};
    for (int64_t i = 0; i < n; ++i)
        chains[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return ((chains[0] + chains[1]) + (chains[2] + chains[3])) +
           ((chains[4] + chains[5]) + (chains[6] + chains[7]));
}

void widen_table_row(const Weight& w, int64_t row, float* out) {
    const int64_t width = w.n_in;
    if (w.dtype == DType::f32) {
        std::memcpy(out, static_cast<const float*>(w.data) + row * width,
                    static_cast<size_t>(width) * sizeof(float));
        return;
    }
    const auto* bits = static_cast<const uint16_t*>(w.data) + row * width;
    for (int64_t i = 0; i < width; ++i)
        out[i] = w.dtype == DType::bf16 ? bf16_to_f32(bits[i]) : f16_to_f32(bits[i]);
}

}  // namespace

void rms_norm(const float* x, int64_t x_stride, int64_t n_rows, int64_t width, const float* weight,
              float epsilon, float* out, int64_t out_stride, device::Stream& stream) {
    if (stream.gpu() != nullptr)
        return cuda::rms_norm(x, x_stride, n_rows, width, weight, epsilon, out, out_stride, stream);
    for_items(n_rows, width, stream, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row)
            HWY_DYNAMIC_DISPATCH(RmsNormRow)
        (x + row * x_stride, width, weight, epsilon, out + row * out_stride);
    });
}

void norm_heads(float* qkv, int64_t stride, int64_t n_rows, const HeadNorm& norm, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::norm_heads(qkv, stride, n_rows, norm, stream);
    for (int64_t head = 0; head < norm.n_query_heads + norm.n_key_heads; ++head) {
        float* x = qkv + head * norm.head_dim;
        const float* weight = head < norm.n_query_heads ? norm.query_weight : norm.key_weight;
        rms_norm(x, stride, n_rows, norm.head_dim, weight, norm.epsilon, x, stride, stream);
    }
}

void sum_of_squares(const float* x, int64_t stride, int64_t n_rows, int64_t width, float* sums,
                    int64_t sums_stride, device::Stream& stream) {
    if (stream.gpu() != nullptr)
        return cuda::sum_of_squares(x, stride, n_rows, width, sums, sums_stride, stream);
    stream.parallel_for(n_rows, [&](int64_t t, int) {
        sums[t * sums_stride] = static_cast<float>(sum_in_doubles(x + t * stride, width));
    });
}

void scale_by_sums(float* x, int64_t stride, int64_t n_rows, const SummedNorm& norm, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::scale_by_sums(x, stride, n_rows, norm, stream);
    stream.parallel_for(n_rows, [&](int64_t t, int) {
        float sum = 0.0f;
        for (int64_t r = 0; r < norm.n_parts; ++r)
            sum += norm.sums[r * norm.part_stride + t * norm.row_stride];
        const float scale = 1.0f / std::sqrt(sum / static_cast<float>(norm.total_width) + norm.epsilon);
        float* row = x + t * stride;
        for (int64_t i = 0; i < norm.width; ++i)
            row[i] = row[i] * scale * norm.weight[i];
    });
}

void clip(float* x, int64_t n, float bound, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::clip(x, n, bound, stream);
    for (int64_t i = 0; i < n; ++i)
        x[i] = std::clamp(x[i], -bound, bound);
}

void embed_rows(const Weight& table, int64_t first_token, std::span<const int32_t> tokens, float* out,
                device::Stream& stream) {
    const auto n_rows = static_cast<int64_t>(tokens.size());
    if (stream.gpu() != nullptr)
        return cuda::embed_rows(table, first_token, tokens.data(), n_rows, out, stream);
    for (int64_t t = 0; t < n_rows; ++t) {
        const int64_t row = tokens[static_cast<size_t>(t)] - first_token;
        if (row >= 0 && row < table.n_out) {
            widen_table_row(table, row, out + t * table.n_in);
        } else {
            std::fill_n(out + t * table.n_in, table.n_in, 0.0f);
        }
    }
}

void gather_rows(const float* x, int64_t width, std::span<const int32_t> rows, float* out,
                 device::Stream& stream) {
    if (stream.gpu() != nullptr)
        return cuda::gather_rows(x, width, rows.data(), static_cast<int64_t>(rows.size()), out, stream);
    for (size_t i = 0; i < rows.size(); ++i)
        std::copy_n(x + rows[i] * width, width, out + static_cast<int64_t>(i) * width);
}

void apply_rope(float* x, int64_t stride, int64_t n_heads, int64_t head_dim,
                std::span<const int32_t> positions, const float* cos, const float* sin,
                device::Stream& stream) {
    if (stream.gpu() != nullptr) {
        return cuda::apply_rope(x, stride, n_heads, head_dim, static_cast<int64_t>(positions.size()),
                                positions.data(), cos, sin, stream);
    }
    for_items(static_cast<int64_t>(positions.size()), n_heads * head_dim, stream,
              [&](int64_t first, int64_t last) {
                  for (int64_t row = first; row < last; ++row) {
                      const int64_t angle = positions[static_cast<size_t>(row)] * (head_dim / 2);
                      HWY_DYNAMIC_DISPATCH(RotateRow)
                      (x + row * stride, n_heads, head_dim, cos + angle, sin + angle);
                  }
              });
}

void silu_mul_on_this_thread(const float* gate, const float* up, int64_t n, float* out) {
    HWY_DYNAMIC_DISPATCH(SiluMul)(gate, up, n, out);
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::silu_mul(gate, up, n, out, stream);
    for_items(n, 1, stream, [&](int64_t first, int64_t last) {
        HWY_DYNAMIC_DISPATCH(SiluMul)(gate + first, up + first, last - first, out + first);
    });
}

void add(const float* x, int64_t n, float* y, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::add(x, n, y, stream);
    for_items(n, 1, stream, [&](int64_t first, int64_t last) {
        HWY_DYNAMIC_DISPATCH(Add)(x + first, last - first, y + first);
    });
}

void add_gated(const float* x, const float* gate, int64_t n_rows, int64_t width, float* out,
               device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::add_gated(x, gate, n_rows, width, out, stream);
    for_items(n_rows, width, stream, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            const float scale = 1.0f / (1.0f + std::exp(-gate[row]));
            HWY_DYNAMIC_DISPATCH(AddScaled)(x + row * width, scale, width, out + row * width);
        }
    });
}

}  // namespace mixserve::kernels
#endif  // HWY_ONCE
