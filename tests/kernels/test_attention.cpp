#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/attention.h"
#include "kernels/kernel_data.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;

/// A cache whose memory is NaN where nothing was stored, and sequences with scattered blocks in it.
struct Cache {
    KvCache view;
    std::vector<std::byte> keys;
    std::vector<std::byte> values;

    Cache(int64_t n_blocks, int64_t block_size, int64_t n_kv_heads, int64_t head_dim, DType dtype) {
        const auto bytes =
            static_cast<size_t>(n_blocks * block_size * n_kv_heads * head_dim * size_of(dtype));
        keys.assign(bytes, std::byte{0xff});
        values.assign(bytes, std::byte{0xff});
        view = {keys.data(), values.data(), dtype, block_size, n_kv_heads, head_dim};
    }
};

/// Every other block of the pool, backwards, from `first` on.
std::vector<int32_t> scattered_blocks(int64_t n, int64_t first) {
    std::vector<int32_t> table(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i)
        table[static_cast<size_t>(i)] = static_cast<int32_t>(first + 2 * (n - 1 - i));
    return table;
}

struct Shape {
    int64_t n_heads, n_kv_heads, head_dim, block_size, sliding_window;
    DType dtype;
};

std::vector<int32_t> heads_of(const Shape& s) {
    std::vector<int32_t> kv_head_of;
    for (int64_t h = 0; h < s.n_heads; ++h)
        kv_head_of.push_back(static_cast<int32_t>(h / (s.n_heads / s.n_kv_heads)));
    return kv_head_of;
}

/// One sequence of `n` tokens: queries, keys and values of every position.
struct Sequence {
    int64_t n;
    std::vector<float> q, k, v;
    Sequence(const Shape& s, int64_t n_tokens, uint32_t seed)
        : n(n_tokens),
          q(random_floats(static_cast<size_t>(n_tokens * s.n_heads * s.head_dim), seed)),
          k(random_floats(static_cast<size_t>(n_tokens * s.n_kv_heads * s.head_dim), seed + 1)),
          v(random_floats(static_cast<size_t>(n_tokens * s.n_kv_heads * s.head_dim), seed + 2)) {}
};

/// Attention of all positions, prefilled in pieces of `chunk` tokens.
std::vector<float> run(const Shape& s, const Sequence& sequence, int64_t chunk, int n_threads) {
    const int64_t n_blocks = (sequence.n + s.block_size - 1) / s.block_size;
    Cache cache(2 * n_blocks + 1, s.block_size, s.n_kv_heads, s.head_dim, s.dtype);
    const std::vector<int32_t> table = scattered_blocks(n_blocks, 1);
    device::Stream stream(n_threads);
    const int64_t q_width = s.n_heads * s.head_dim;
    const int64_t kv_width = s.n_kv_heads * s.head_dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    std::vector<float> out(sequence.q.size(), NAN);
    for (int64_t first = 0; first < sequence.n; first += chunk) {
        const int64_t n = std::min(chunk, sequence.n - first);
        const SequenceRows rows = {0, n, first, table.data()};
        store_kv(sequence.k.data() + first * kv_width, sequence.v.data() + first * kv_width, kv_width,
                 {&rows, 1}, cache.view, stream);
        paged_attention(sequence.q.data() + first * q_width, q_width, s.n_heads, heads_of(s), scale,
                        s.sliding_window, {&rows, 1}, cache.view, out.data() + first * q_width, stream);
    }
    return out;
}

/// In doubles. Scores carry gamma(head_dim + 2) of the sum of their magnitudes, and the difference to the
/// largest and the exponential 4 roundings of the score's size; weights carry that relative error twice (sum
/// and value), values 70 + chunks.
void expect_near_reference(const Shape& s, const Sequence& sequence, std::span<const float> out) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(s.head_dim));
    const std::vector<int32_t> kv_head_of = heads_of(s);
    const Stored k(sequence.k, s.dtype);
    const Stored v(sequence.v, s.dtype);
    const auto dim = static_cast<size_t>(s.head_dim);
    for (int64_t position = 0; position < sequence.n; ++position) {
        for (int64_t head = 0; head < s.n_heads; ++head) {
            const auto q_at = static_cast<size_t>((position * s.n_heads + head) * s.head_dim);
            const int64_t begin =
                s.sliding_window > 0 ? std::max<int64_t>(0, position - s.sliding_window + 1) : 0;
            std::vector<double> scores;
            double score_error = 0.0;
            for (int64_t p = begin; p <= position; ++p) {
                const auto k_at = static_cast<size_t>(
                    (p * s.n_kv_heads + kv_head_of[static_cast<size_t>(head)]) * s.head_dim);
                double score = 0.0, magnitude = 0.0;
                for (size_t d = 0; d < dim; ++d) {
                    const double product =
                        static_cast<double>(sequence.q[q_at + d]) * static_cast<double>(k[k_at + d]) * scale;
                    score += product;
                    magnitude += std::fabs(product);
                }
                scores.push_back(score);
                score_error = std::max(score_error, gamma(s.head_dim + 6) * magnitude);
            }
            const double largest = *std::max_element(scores.begin(), scores.end());
            double sum = 0.0;
            for (double& score : scores) {
                score = std::exp(score - largest);
                sum += score;
            }
            const double relative =
                2.0 * std::expm1(2.0 * score_error) + gamma(2 * (70 + sequence.n / 64 * 4 + 4));
            for (size_t d = 0; d < dim; ++d) {
                double expected = 0.0, magnitude = 0.0;
                for (size_t j = 0; j < scores.size(); ++j) {
                    const auto v_at = static_cast<size_t>(((begin + static_cast<int64_t>(j)) * s.n_kv_heads +
                                                           kv_head_of[static_cast<size_t>(head)]) *
                                                          s.head_dim);
                    const double term = scores[j] / sum * static_cast<double>(v[v_at + d]);
                    expected += term;
                    magnitude += std::fabs(term);
                }
                ASSERT_TRUE(within(static_cast<double>(out[q_at + d]), expected, relative * magnitude))
                    << "position " << position << " head " << head << " d " << d << ": " << out[q_at + d]
                    << " against " << expected << ", bound " << relative * magnitude;
            }
        }
    }
}

const std::vector<Shape> shapes = {
    {4, 4, 16, 16, 0, DType::f32},  {4, 2, 32, 16, 0, DType::bf16},  {6, 1, 20, 8, 0, DType::f32},
    {8, 2, 128, 32, 0, DType::f16}, {4, 1, 64, 16, 7, DType::f32},   {2, 2, 80, 16, 64, DType::bf16},
    {3, 3, 7, 5, 0, DType::f32},    {4, 2, 33, 16, 100, DType::f32}, {14, 1, 8, 1, 0, DType::f32},
};

std::string describe(const Shape& s) {
    return fmt::format("{} heads on {}, dim {}, blocks of {}, window {}, {}", s.n_heads, s.n_kv_heads,
                       s.head_dim, s.block_size, s.sliding_window, name(s.dtype));
}

TEST(Attention, AgreesWithDoubles) {
    for (const Shape& s : shapes) {
        for (const int64_t n : {1, 3, 17, 65, 150}) {
            SCOPED_TRACE(describe(s) + fmt::format(", {} tokens", n));
            const Sequence sequence(s, n, 20);
            expect_near_reference(s, sequence, run(s, sequence, n, 1));
            if (HasFatalFailure()) return;
        }
    }
}

TEST(Attention, ChunksOfThePrefillAndThreadsChangeNoBit) {
    for (const Shape& s : shapes) {
        SCOPED_TRACE(describe(s));
        const Sequence sequence(s, 150, 30);
        const std::vector<float> whole = run(s, sequence, 150, 1);
        EXPECT_TRUE(same_bits(whole, run(s, sequence, 150, 2))) << "threads";
        for (const int64_t chunk : {1, 5, 16, 63, 64, 65, 100})
            EXPECT_TRUE(same_bits(whole, run(s, sequence, chunk, 2))) << "chunks of " << chunk;
    }
}

TEST(Attention, SequencesOfABatchDoNotTouchEachOther) {
    const Shape s = {4, 2, 32, 16, 0, DType::f32};
    // Three sequences in one step: 40 prefilled, a decode at 70, a piece of a prefill at 20..50.
    struct Part {
        int64_t first_position, n_tokens;
    };
    const std::vector<Part> parts = {{0, 40}, {70, 1}, {20, 30}};
    Cache cache(64, 16, 2, 32, DType::f32);
    device::Stream stream(2);
    std::vector<std::vector<int32_t>> tables;
    std::vector<Sequence> sequences;
    std::vector<SequenceRows> rows;
    std::vector<float> q;
    for (size_t i = 0; i < parts.size(); ++i) {
        const Part part = parts[i];
        tables.push_back(scattered_blocks(6, static_cast<int64_t>(i) * 20));
        sequences.emplace_back(s, part.first_position + part.n_tokens, static_cast<uint32_t>(50 + 10 * i));
        const SequenceRows all = {0, part.first_position + part.n_tokens, 0, tables[i].data()};
        store_kv(sequences[i].k.data(), sequences[i].v.data(), 64, {&all, 1}, cache.view, stream);
        q.insert(q.end(), sequences[i].q.begin() + part.first_position * 128, sequences[i].q.end());
    }
    int64_t row = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
        rows.push_back({row, parts[i].n_tokens, parts[i].first_position, tables[i].data()});
        row += parts[i].n_tokens;
    }
    std::vector<float> out(q.size(), NAN);
    paged_attention(q.data(), 128, 4, heads_of(s), 1.0f / std::sqrt(32.0f), 0, rows, cache.view, out.data(),
                    stream);
    for (size_t i = 0; i < parts.size(); ++i) {
        const std::vector<float> alone = run(s, sequences[i], sequences[i].n, 1);
        const std::span<const float> expected(alone.data() + parts[i].first_position * 128,
                                              static_cast<size_t>(parts[i].n_tokens * 128));
        EXPECT_TRUE(same_bits(expected, {out.data() + rows[i].first_row * 128, expected.size()}))
            << "sequence " << i;
    }
}

TEST(Attention, ReadsQueriesWithAStrideAndAnyMapOfHeads) {
    const int64_t n = 20;
    const std::vector<int32_t> map = {1, 0, 1};
    const std::vector<float> qkv =
        random_floats(static_cast<size_t>(n * 7 * 16), 70);  // 3 query, 2 key, 2 value heads
    Cache cache(8, 16, 2, 16, DType::f32);
    const std::vector<int32_t> table = {5, 2};
    const SequenceRows rows = {0, n, 0, table.data()};
    device::Stream stream(1);
    store_kv(qkv.data() + 48, qkv.data() + 80, 112, {&rows, 1}, cache.view, stream);
    std::vector<float> out(static_cast<size_t>(n * 48), NAN);
    paged_attention(qkv.data(), 112, 3, map, 0.25f, 0, {&rows, 1}, cache.view, out.data(), stream);

    // Each head alone, as a model of one head.
    const Shape one = {1, 1, 16, 16, 0, DType::f32};
    for (size_t head = 0; head < 3; ++head) {
        Sequence sequence(one, n, 1);
        for (size_t t = 0; t < static_cast<size_t>(n); ++t) {
            const auto kv = static_cast<size_t>(map[head]);
            std::copy_n(qkv.data() + t * 112 + head * 16, 16, sequence.q.data() + t * 16);
            std::copy_n(qkv.data() + t * 112 + 48 + kv * 16, 16, sequence.k.data() + t * 16);
            std::copy_n(qkv.data() + t * 112 + 80 + kv * 16, 16, sequence.v.data() + t * 16);
        }
        const std::vector<float> alone = run(one, sequence, n, 1);
        for (size_t t = 0; t < static_cast<size_t>(n); ++t)
            EXPECT_TRUE(same_bits({out.data() + t * 48 + head * 16, 16}, {alone.data() + t * 16, 16}));
    }
}

TEST(Attention, InstructionSetsWithFusedProductsGiveTheSameBits) {
    if ((hwy::SupportedTargets() & HWY_AVX2) == 0) GTEST_SKIP() << "no AVX2 here";
    for (const Shape& s : shapes) {
        const Sequence sequence(s, 130, 90);
        const std::vector<float> best = run(s, sequence, 130, 1);
        const OnlyTargets avx2(HWY_AVX2);
        EXPECT_TRUE(same_bits(best, run(s, sequence, 130, 1))) << describe(s);
    }
}

TEST(Attention, LargeScoresDoNotOverflow) {
    const Shape s = {1, 1, 16, 16, 0, DType::f32};
    Sequence sequence(s, 100, 95);
    for (float& value : sequence.q)
        value *= 1000.0f;
    for (const float value : run(s, sequence, 100, 1))
        ASSERT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace mixserve::kernels
