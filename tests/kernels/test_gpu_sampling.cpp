#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <random>

#include "base/error.h"
#include "base/partition.h"
#include "engine/gpu_sampler.h"
#include "engine/sampler.h"
#include "kernels/gpu_data.h"

namespace mixserve::kernels {
namespace {

using namespace mixserve::test;
using engine::GpuSampler;
using engine::Sampled;
using engine::SampleInput;
using engine::Sampler;
using engine::TokenCounts;
using testing::HasSubstr;

/// A row that is sampled on both sides.
struct Row {
    std::vector<float> logits;
    io::SamplingParams params;
    std::vector<int32_t> prompt = {};
    std::vector<int32_t> output = {};
    std::vector<int32_t> banned = {};
    DrawKey key = {};
};

std::vector<float> random_logits(size_t n, uint32_t seed, float spread = 3) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> logits(n);
    std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
    return logits;
}

TokenCounts counts_of(const Row& row) {
    TokenCounts counts;
    counts.add_prompt(row.prompt);
    for (const int32_t token : row.output)
        counts.add_output(token);
    return counts;
}

Sampled on_cpu(const Row& row) {
    const TokenCounts counts = counts_of(row);
    std::vector<float> logits = row.logits;
    return Sampler().sample({logits, row.params, &counts, row.banned, row.key});
}

/// All rows together, of one vocabulary, which is cut into `n_slices` as it is between ranks.
std::vector<Sampled> on_gpu(const std::vector<Row>& rows, int64_t n_slices = 1) {
    const auto vocab = static_cast<int64_t>(rows.at(0).logits.size());
    const auto n_rows = static_cast<int64_t>(rows.size());
    const int64_t width = partition(vocab, n_slices, 0).size();
    std::vector<float> sliced(static_cast<size_t>(n_slices * n_rows * width), NAN);
    GpuSampler sampler(vocab, gpu_stream());
    std::vector<TokenCounts> counts;
    for (const Row& row : rows)
        counts.push_back(counts_of(row));
    for (int64_t r = 0; r < n_rows; ++r) {
        const Row& row = rows[static_cast<size_t>(r)];
        for (int64_t s = 0; s < n_slices; ++s) {
            const Range range = partition(vocab, n_slices, s);
            std::copy_n(row.logits.begin() + range.begin, range.size(),
                        sliced.begin() + (s * n_rows + r) * width);
        }
        EXPECT_TRUE(sampler.add({{}, row.params, &counts[static_cast<size_t>(r)], row.banned, row.key}, r));
    }
    const OnGpu<float> logits(sliced);
    sampler.enqueue({logits.data(), n_rows, n_slices, width, vocab});
    return sampler.finish();
}

io::SamplingParams at_temperature(double temperature) {
    io::SamplingParams params;
    params.temperature = temperature;
    return params;
}

/// Every kind of row that there is.
std::vector<io::SamplingParams> many_params() {
    std::vector<io::SamplingParams> all = {at_temperature(0), at_temperature(1), at_temperature(0.2)};
    const auto add = [&](double temperature, int64_t top_k, double top_p, double min_p) {
        io::SamplingParams& params = all.emplace_back(at_temperature(temperature));
        params.top_k = top_k;
        params.top_p = top_p;
        params.min_p = min_p;
    };
    add(0.6, 20, 0.95, 0);  // what Qwen3 asks for
    add(1, 1, 1, 0);
    add(1.5, 7, 1, 0);
    add(0.9, 0, 0.5, 0);
    add(1.1, 0, 0.99, 0);
    add(1, 0, 1e-9, 0);
    add(0.8, 0, 1, 0.05);
    add(0.8, 50, 0.8, 0.01);
    add(2, 1'000'000, 0.7, 1);
    return all;
}

// The weights' rounding moves a border by less than 1e-6, and no draw here falls that near to one.
TEST(GpuSampling, DrawsWhatTheCpuDraws) {
    MIXSERVE_NEEDS_GPU();
    for (const size_t vocab : {61U, 600U, 4099U}) {
        std::vector<Row> rows;
        for (const io::SamplingParams& params : many_params()) {
            for (uint32_t i = 0; i < (vocab < 4000 ? 6 : 2); ++i) {
                Row row{random_logits(vocab, 100 + i), params};
                row.key = {7, 11 * i, 1, static_cast<uint32_t>(rows.size())};
                if (i % 2 == 1) {
                    row.prompt = {3, 4, 5, 60};
                    row.output = {4, 9, 9, 9};
                    row.params.repetition_penalty = 1.3;
                    row.params.frequency_penalty = 0.4;
                    row.params.presence_penalty = -0.7;
                }
                if (i % 3 == 2)
                    row.banned = {static_cast<int32_t>(
                        std::max_element(row.logits.begin(), row.logits.end()) - row.logits.begin())};
                rows.push_back(row);
            }
        }
        const std::vector<Sampled> sampled = on_gpu(rows);
        const std::vector<Sampled> from_slices = on_gpu(rows, 3);
        ASSERT_EQ(sampled.size(), rows.size());
        for (size_t i = 0; i < rows.size(); ++i) {
            EXPECT_EQ(sampled[i].token, on_cpu(rows[i]).token) << "row " << i << " of " << vocab;
            EXPECT_EQ(from_slices[i].token, sampled[i].token) << "row " << i << " of " << vocab;
        }
    }
}

TEST(GpuSampling, EqualsAndEdges) {
    MIXSERVE_NEEDS_GPU();
    std::vector<Row> rows;
    for (const io::SamplingParams& params : many_params()) {
        std::vector<std::vector<float>> cases = {
            std::vector<float>(700, 1.0F),  // more equals than any filter keeps
            std::vector<float>(700, 0.0F),
            random_logits(700, 1, 1e4F),
            random_logits(700, 2, 1e-4F),
        };
        for (size_t i = 0; i < 700; i += 2)
            cases[1][i] = -0.0F;  // the same number
        for (float& logit : cases.emplace_back(random_logits(700, 3)))
            logit = std::round(logit);
        for (std::vector<float>& logits : cases) {
            Row row{std::move(logits), params};
            row.key.position = static_cast<uint32_t>(rows.size());
            row.params.logprobs = 5;
            rows.push_back(std::move(row));
        }
    }
    const std::vector<Sampled> sampled = on_gpu(rows);
    for (size_t i = 0; i < rows.size(); ++i)
        EXPECT_EQ(sampled[i].token, on_cpu(rows[i]).token) << "row " << i;
    const std::vector<Row> one = {{{0.5F}, at_temperature(1)}};
    EXPECT_EQ(on_gpu(one)[0].token, 0);
}

TEST(GpuSampling, TellsLogprobsOfTheRawDistribution) {
    MIXSERVE_NEEDS_GPU();
    std::vector<Row> rows;
    for (const int64_t n_top : {0, 1, 5, 100}) {
        for (const bool with_ties : {false, true}) {
            Row row{random_logits(333, 5, 4), at_temperature(1.2)};
            for (size_t i = 0; with_ties && i < row.logits.size(); ++i)
                row.logits[i] = std::round(row.logits[i]);
            row.params.logprobs = n_top;
            row.params.repetition_penalty = 2;
            row.prompt = {1, 2, 3};
            row.banned = {7, 8};
            row.key.position = static_cast<uint32_t>(rows.size());
            rows.push_back(row);
        }
    }
    const std::vector<Sampled> sampled = on_gpu(rows);
    for (size_t i = 0; i < rows.size(); ++i) {
        SCOPED_TRACE(fmt::format("row {}", i));
        const Sampled expected = on_cpu(rows[i]);
        ASSERT_EQ(sampled[i].token, expected.token);
        ASSERT_TRUE(sampled[i].logprobs);
        EXPECT_NEAR(sampled[i].logprobs->logprob, expected.logprobs->logprob, 2e-6);
        EXPECT_EQ(sampled[i].logprobs->rank, expected.logprobs->rank);
        ASSERT_EQ(sampled[i].logprobs->top.size(), expected.logprobs->top.size());
        for (size_t j = 0; j < expected.logprobs->top.size(); ++j) {
            EXPECT_EQ(sampled[i].logprobs->top[j].token, expected.logprobs->top[j].token) << j;
            EXPECT_NEAR(sampled[i].logprobs->top[j].logprob, expected.logprobs->top[j].logprob, 2e-6) << j;
        }
    }
    EXPECT_FALSE(on_gpu({{{1, 2}, at_temperature(0)}})[0].logprobs);
}

// Blocks run their threads forwards and backwards in turn on the emulator, and on a GPU in any order.
TEST(GpuSampling, TheSameRowGivesTheSameBytes) {
    MIXSERVE_NEEDS_GPU();
    Row row{random_logits(5000, 9), at_temperature(1)};
    row.params.top_p = 0.97;
    row.params.logprobs = 20;
    const std::vector<Sampled> sampled = on_gpu({row, row, row});
    for (const Sampled& other : sampled) {
        EXPECT_EQ(other.token, sampled[0].token);
        EXPECT_EQ(other.logprobs->logprob, sampled[0].logprobs->logprob);
        for (size_t j = 0; j < 20; ++j)
            EXPECT_EQ(other.logprobs->top[j].logprob, sampled[0].logprobs->top[j].logprob);
    }
}

// Against probabilities that are computed here; what the filters leave out must not come.
TEST(GpuSampling, FollowsTheDistribution) {
    MIXSERVE_NEEDS_GPU();
    constexpr size_t vocab = 40;
    constexpr int n_draws = 1500;
    Row row{random_logits(vocab, 12, 1.5F), at_temperature(0.9)};
    row.params.top_k = 30;
    row.params.top_p = 0.9;
    std::vector<size_t> order(vocab);
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row.logits[a] > row.logits[b]; });
    order.resize(30);
    const auto weight = [&](size_t i) { return std::exp(static_cast<double>(row.logits[i]) / 0.9); };
    double all = 0;
    for (const size_t i : order)
        all += weight(i);
    std::vector<double> wanted(vocab, 0);
    double mass = 0;
    for (const size_t i : order) {
        if (mass >= 0.9 * all) break;
        wanted[i] = weight(i);
        mass += weight(i);
    }
    std::vector<Row> rows(n_draws, row);
    for (uint32_t i = 0; i < n_draws; ++i)
        rows[i].key = {1, 2, 3, i};
    std::vector<int> seen(vocab, 0);
    for (const Sampled& sampled : on_gpu(rows))
        ++seen[static_cast<size_t>(sampled.token)];
    double chi_square = 0;
    int n_kept = 0;
    for (size_t i = 0; i < vocab; ++i) {
        if (wanted[i] == 0) {
            EXPECT_EQ(seen[i], 0) << "token " << i << " is out";
            continue;
        }
        const double expected = wanted[i] / mass * n_draws;
        chi_square += (seen[i] - expected) * (seen[i] - expected) / expected;
        ++n_kept;
    }
    ASSERT_GT(n_kept, 5);
    const double freedom = n_kept - 1;
    EXPECT_TRUE(chi_square <= freedom + 5 * std::sqrt(2 * freedom)) << chi_square << " over " << n_kept;
}

std::string error_of(const std::vector<Row>& rows) {
    try {
        on_gpu(rows);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

TEST(GpuSampling, RefusesWhatTheCpuRefuses) {
    MIXSERVE_NEEDS_GPU();
    for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        for (const size_t at : {0U, 8U, 130U}) {
            Row row{std::vector<float>(131, 0.5F), at_temperature(0.7)};
            row.logits[at] = bad;
            EXPECT_THAT(error_of({{std::vector<float>(131, 1.0F), at_temperature(0)}, row}),
                        HasSubstr(fmt::format("1 of 131 logits are not finite (the first is {} of token {})",
                                              bad, at)));
        }
    }
    Row overflows{{1e38F, 3e38F, 1}, at_temperature(1)};
    overflows.params.repetition_penalty = 0.1;
    overflows.prompt = {1};
    EXPECT_THAT(error_of({overflows}),
                HasSubstr("1 of 3 logits are not finite (the first is inf of token 1)"));

    GpuSampler sampler(2, gpu_stream());
    const io::SamplingParams params = at_temperature(1);
    const int32_t outside[] = {2};
    EXPECT_THROW(sampler.add({{}, params, nullptr, outside}, 0), Error);
    const int32_t all[] = {0, 1};
    EXPECT_FALSE(sampler.add({{}, params, nullptr, all}, 0));  // Sampler's error
}

}  // namespace
}  // namespace mixserve::kernels
