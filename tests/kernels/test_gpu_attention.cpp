#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/attention.h"
#include "kernels/gpu_data.h"
#include "kernels/kernel_data.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

struct Shape {
    int64_t n_heads, n_kv_heads, head_dim, block_size, sliding_window;
    DType dtype;
};

/// Some tokens of a sequence in a step.
struct Part {
    int64_t first_position, n_tokens;
};

/// A step's sequences over one pool of blocks in a random order. Contexts are filled by storing all their
/// keys and values, in the CPU's cache and in the GPU's.
class Step {
  public:
    Step(const Shape& shape, const std::vector<Part>& parts) : s_(shape) {
        int64_t n_blocks = 0;
        for (const Part& p : parts)
            n_blocks += (p.first_position + p.n_tokens + s_.block_size - 1) / s_.block_size;
        std::vector<int32_t> pool(static_cast<size_t>(n_blocks + 3));
        std::iota(pool.begin(), pool.end(), 0);
        std::shuffle(pool.begin(), pool.end(), std::mt19937(3));
        tables_ = pool;
        const int32_t* next = tables_.data();
        int64_t row = 0;
        for (const Part& p : parts) {
            sequences_.push_back({row, p.n_tokens, p.first_position, next});
            next += (p.first_position + p.n_tokens + s_.block_size - 1) / s_.block_size;
            row += p.n_tokens;
        }
        n_rows_ = row;
        for (int64_t h = 0; h < s_.n_heads; ++h)
            kv_head_of_.push_back(static_cast<int32_t>(h * s_.n_kv_heads / s_.n_heads));
        const auto bytes = pool.size() * static_cast<size_t>(s_.block_size * s_.n_kv_heads * s_.head_dim) *
                           static_cast<size_t>(size_of(s_.dtype));
        keys_.assign(bytes, std::byte{0xff});
        values_.assign(bytes, std::byte{0xff});
    }

    /// The tolerance is on the norm of the whole. `is_replayed`: also with a padded plan.
    void check(double tolerance, bool is_replayed = false) {
        const int64_t q_width = s_.n_heads * s_.head_dim;
        const int64_t stride = q_width + 2 * s_.n_kv_heads * s_.head_dim;
        device::Stream cpu(1);
        KvCache cache{keys_.data(), values_.data(), s_.dtype, s_.block_size, s_.n_kv_heads, s_.head_dim};
        OnGpu<std::byte> gpu_keys(keys_), gpu_values(values_);
        KvCache gpu_cache = cache;
        gpu_cache.keys = gpu_keys.data();
        gpu_cache.values = gpu_values.data();

        // Everything up to the end of each sequence, as if it had been prefilled.
        std::vector<SequenceRows> history;
        int64_t n_history = 0;
        for (const SequenceRows& s : sequences_) {
            history.push_back({n_history, s.first_position + s.n_tokens, 0, s.block_table});
            n_history += s.first_position + s.n_tokens;
        }
        const std::vector<float> kv = random_floats(static_cast<size_t>(n_history * stride), 31);
        const OnGpu<float> gpu_kv(kv);
        const int64_t k_at = q_width, v_at = q_width + s_.n_kv_heads * s_.head_dim;
        store_kv(kv.data() + k_at, kv.data() + v_at, stride, history, cache, cpu);
        store_kv(gpu_kv.data() + k_at, gpu_kv.data() + v_at, stride, history, gpu_cache, gpu_stream());
        EXPECT_EQ(gpu_keys.read(), keys_);
        EXPECT_EQ(gpu_values.read(), values_);

        const std::vector<float> q = random_floats(static_cast<size_t>(n_rows_ * stride), 32);
        const float scale = 1.0F / std::sqrt(static_cast<float>(s_.head_dim));
        std::vector<float> expected(static_cast<size_t>(n_rows_ * q_width), NAN);
        paged_attention(q.data(), stride, s_.n_heads, kv_head_of_, scale, s_.sliding_window, sequences_,
                        cache, expected.data(), cpu);
        const OnGpu<float> gpu_q(q);
        OnGpu<float> out = unwritten(expected.size());
        paged_attention(gpu_q.data(), stride, s_.n_heads, kv_head_of_, scale, s_.sliding_window, sequences_,
                        gpu_cache, out.data(), gpu_stream());
        const std::vector<float> actual = out.read();
        EXPECT_LE(norm_distance(actual, expected), tolerance);
        if (is_replayed) check_padded(gpu_q, stride, scale, gpu_cache, actual);
    }

    /// The plan of a step that is replayed: the same bits, and rows that have nothing done to them.
    void check_padded(const OnGpu<float>& q, int64_t stride, float scale, const KvCache& cache,
                      const std::vector<float>& expected) {
        constexpr size_t n_more = 3;
        const auto n_rows = n_rows_ + static_cast<int64_t>(n_more);
        const AttentionBatch plan = plan_attention(sequences_, kv_head_of_, cache, gpu_stream(), n_rows);
        const size_t q_width = expected.size() / static_cast<size_t>(n_rows_);
        OnGpu<float> out = unwritten(expected.size() + n_more * q_width);
        paged_attention(q.data(), stride, scale, s_.sliding_window, plan, cache, out.data(), gpu_stream());
        const std::vector<float> values = out.read();
        EXPECT_TRUE(same_bits({values.begin(), values.begin() + static_cast<std::ptrdiff_t>(expected.size())},
                              expected));
        EXPECT_TRUE(std::all_of(values.begin() + static_cast<std::ptrdiff_t>(expected.size()), values.end(),
                                [](float v) { return std::isnan(v); }));
        const auto at = static_cast<int64_t>(q_width);
        const int64_t width = s_.n_kv_heads * s_.head_dim;
        OnGpu<std::byte> keys(keys_), values_now(values_);
        OnGpu<std::byte> padded_keys(keys_), padded_values(values_);
        KvCache plain = cache, padded = cache;
        plain.keys = keys.data();
        plain.values = values_now.data();
        padded.keys = padded_keys.data();
        padded.values = padded_values.data();
        store_kv(q.data() + at, q.data() + at + width, stride, plan, padded, gpu_stream());
        store_kv(q.data() + at, q.data() + at + width, stride, sequences_, plain, gpu_stream());
        EXPECT_EQ(padded_keys.read(), keys.read());
        EXPECT_EQ(padded_values.read(), values_now.read());
    }

  private:
    Shape s_;
    std::vector<int32_t> tables_;
    std::vector<SequenceRows> sequences_;
    std::vector<int32_t> kv_head_of_;
    std::vector<std::byte> keys_, values_;
    int64_t n_rows_ = 0;
};

std::string describe(const Shape& s) {
    return fmt::format("{} heads on {}, dim {}, blocks of {}, window {}, {}", s.n_heads, s.n_kv_heads,
                       s.head_dim, s.block_size, s.sliding_window, name(s.dtype));
}

// In f32 on both sides: sums differ in their order.
constexpr double f32_tolerance = 2e-6;

TEST(GpuAttention, DecodeAgreesWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const Shape& s : {Shape{4, 4, 16, 16, 0, DType::f32}, Shape{8, 1, 64, 16, 0, DType::bf16},
                           Shape{6, 2, 20, 8, 40, DType::f16}, Shape{3, 3, 7, 5, 0, DType::f32},
                           Shape{4, 2, 128, 16, 300, DType::bf16}, Shape{2, 2, 256, 32, 0, DType::f32}}) {
        SCOPED_TRACE(describe(s));
        Step(s, {{0, 1}, {5, 1}, {31, 1}, {32, 1}, {255, 1}, {256, 1}, {600, 1}, {511, 2}})
            .check(f32_tolerance, true);
    }
}

TEST(GpuAttention, SizesOfPlansAreFew) {
    EXPECT_EQ(cuda::padded_size(0), 0);
    int64_t last = 0;
    int n_sizes = 0;
    for (int64_t n = 1; n <= 4096; ++n) {
        const int64_t size = cuda::padded_size(n);
        ASSERT_GE(size, n);
        ASSERT_LE(4 * size, 5 * n + 3) << n;
        ASSERT_GE(size, last);
        n_sizes += size > last ? 1 : 0;
        last = size;
    }
    EXPECT_EQ(n_sizes, 8 + 4 * 9);
    EXPECT_EQ(cuda::padded_size(33), 40);
    EXPECT_EQ(cuda::padded_size(64), 64);
}

TEST(GpuAttention, PrefillInF32AgreesWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const Shape& s : {Shape{4, 4, 16, 16, 0, DType::f32}, Shape{4, 2, 64, 16, 7, DType::f32},
                           Shape{6, 1, 20, 8, 0, DType::bf16}, Shape{14, 1, 8, 1, 0, DType::f32}}) {
        SCOPED_TRACE(describe(s));
        Step(s, {{0, 33}, {20, 1}, {40, 50}}).check(f32_tolerance);
    }
}

TEST(GpuAttention, PrefillOnTensorCoresAgreesWithTheCpu) {
    MIXSERVE_NEEDS_GPU();
    for (const Shape& s : {Shape{4, 2, 64, 16, 0, DType::bf16}, Shape{2, 1, 128, 16, 0, DType::bf16},
                           Shape{2, 2, 64, 32, 20, DType::f16}, Shape{8, 1, 128, 16, 70, DType::f16}}) {
        SCOPED_TRACE(describe(s));
        // Queries and weights are rounded to the cache's type: an error in the exponent, and one of the
        // weights.
        const double unit = s.dtype == DType::bf16 ? 0x1p-9 : 0x1p-12;
        Step(s, {{0, 70}, {50, 1}, {30, 40}, {127, 20}, {64, 65}}).check(4 * unit);
    }
}

}  // namespace
}  // namespace mixserve::kernels
