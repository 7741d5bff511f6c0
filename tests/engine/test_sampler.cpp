#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/error.h"
#include "engine/sampler.h"

namespace mixserve::engine {
namespace {

using testing::HasSubstr;

std::vector<float> random_logits(size_t n, uint32_t seed, float spread = 3) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> logits(n);
    std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
    return logits;
}

// What sample() should do, in f64 and with a full sort: the probability of each token.
std::vector<double> reference_probabilities(const std::vector<float>& logits, const io::SamplingParams& p,
                                            const std::vector<int32_t>& prompt,
                                            const std::vector<int32_t>& output,
                                            const std::vector<int32_t>& banned) {
    std::vector<double> x(logits.begin(), logits.end());
    for (size_t i = 0; i < x.size(); ++i) {
        const auto id = static_cast<int32_t>(i);
        const auto n = std::count(output.begin(), output.end(), id);
        if (n > 0 || std::count(prompt.begin(), prompt.end(), id) > 0)
            x[i] = x[i] > 0 ? x[i] / p.repetition_penalty : x[i] * p.repetition_penalty;
        x[i] -= p.frequency_penalty * static_cast<double>(n) + (n > 0 ? p.presence_penalty : 0);
    }
    std::vector<bool> in(x.size(), true);
    for (const int32_t id : banned)
        in[static_cast<size_t>(id)] = false;
    const auto probabilities = [&] {
        std::vector<double> out(x.size(), 0);
        double largest = -1e300;
        for (size_t i = 0; i < x.size(); ++i)
            if (in[i]) largest = std::max(largest, x[i]);
        double sum = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            if (in[i]) out[i] = std::exp((x[i] - largest) / p.temperature);
            sum += out[i];
        }
        for (double& value : out)
            value /= sum;
        return out;
    };
    std::vector<double> now = probabilities();
    const double most = *std::max_element(now.begin(), now.end());
    for (size_t i = 0; i < x.size(); ++i)
        if (now[i] < p.min_p * most * (1 - 1e-9)) in[i] = false;

    std::vector<size_t> order(x.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const auto sort_by_probability = [&] {
        now = probabilities();
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return now[a] > now[b]; });
    };
    sort_by_probability();
    if (p.top_k > 0 && static_cast<size_t>(p.top_k) < x.size()) {
        const double kth = now[order[static_cast<size_t>(p.top_k) - 1]];
        for (size_t i = 0; i < x.size(); ++i)
            if (now[i] < kth) in[i] = false;
    }
    sort_by_probability();
    double before = 0;
    for (const size_t i : order) {
        if (before >= p.top_p * (1 - 1e-12) && p.top_p < 1) in[i] = false;
        before += now[i];
    }
    return probabilities();
}

// Draws many times and compares the counts with the probabilities; nothing outside of the support may come.
void expect_distribution(const std::vector<float>& logits, const io::SamplingParams& params,
                         const std::vector<int32_t>& prompt = {}, const std::vector<int32_t>& output = {},
                         const std::vector<int32_t>& banned = {}) {
    constexpr int n_draws = 10'000;
    TokenCounts counts;
    counts.add_prompt(prompt);
    for (const int32_t token : output)
        counts.add_output(token);
    const std::vector<double> wanted = reference_probabilities(logits, params, prompt, output, banned);
    std::vector<int> seen(logits.size(), 0);
    Sampler sampler;
    for (uint32_t i = 0; i < n_draws; ++i) {
        std::vector<float> work = logits;
        ++seen[static_cast<size_t>(sampler.sample({work, params, &counts, banned, {1, 2, 3, i}}).token)];
    }
    // Bins with few expected draws go together.
    double chi_square = 0;
    int n_bins = 0;
    double rest_wanted = 0;
    int rest_seen = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
        if (wanted[i] <= 0) {
            ASSERT_EQ(seen[i], 0) << "token " << i << " is out";
        }
        const double expected = wanted[i] * n_draws;
        if (expected < 10) {
            rest_wanted += expected;
            rest_seen += seen[i];
            continue;
        }
        chi_square += (seen[i] - expected) * (seen[i] - expected) / expected;
        ++n_bins;
    }
    if (rest_wanted >= 10) {
        chi_square += (rest_seen - rest_wanted) * (rest_seen - rest_wanted) / rest_wanted;
        ++n_bins;
    }
    const double freedom = std::max(1, n_bins - 1);
    // Mean plus five standard deviations.
    EXPECT_TRUE(chi_square <= freedom + 5 * std::sqrt(2 * freedom))
        << chi_square << " over " << n_bins << " bins";
}

io::SamplingParams at_temperature(double temperature) {
    io::SamplingParams params;
    params.temperature = temperature;
    return params;
}

TEST(Sampler, DrawsFromTheDistribution) {
    for (const double temperature : {0.3, 1.0, 2.5}) {
        expect_distribution(random_logits(50, 1), at_temperature(temperature));
        expect_distribution(random_logits(3000, 2), at_temperature(temperature));
    }
    expect_distribution({0.5F}, at_temperature(1));
    expect_distribution({-1e4F, 1e4F, 1e4F}, at_temperature(1));
}

TEST(Sampler, FiltersKeepTheRightTokens) {
    for (uint32_t seed = 10; seed < 14; ++seed) {
        const std::vector<float> logits = random_logits(400, seed, 1.5F);
        io::SamplingParams params = at_temperature(0.9);
        params.top_k = 17;
        expect_distribution(logits, params);
        params.top_p = 0.6;
        expect_distribution(logits, params);
        params.top_k = 0;
        expect_distribution(logits, params);
        params.top_p = 0.98;  // more tokens than the first selection takes
        expect_distribution(logits, params);
        params.min_p = 0.02;
        expect_distribution(logits, params);
        params.top_p = 1;
        expect_distribution(logits, params);
        params.top_k = 5;
        expect_distribution(logits, params, {}, {}, {1, 2, 3});
    }
}

TEST(Sampler, FilterEdges) {
    const std::vector<float> ties(300, 1.0F);
    io::SamplingParams params = at_temperature(1);
    params.top_k = 7;  // all are equals of the seventh
    expect_distribution(ties, params);
    params.top_k = 300;
    expect_distribution(ties, params);
    params.top_k = -1;
    params.top_p = 0.5;
    expect_distribution(ties, params);
    params.top_p = 1e-12;
    params.min_p = 1;
    expect_distribution(random_logits(100, 3), params);
    params = at_temperature(1);
    params.top_k = 1;
    std::vector<float> logits = random_logits(1000, 4);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    Sampler sampler;
    EXPECT_EQ(sampler.sample({logits, params}).token, best);
    // Rising values make the selection drop many times.
    std::iota(logits.begin(), logits.end(), 0.0F);
    params.top_k = 3;
    params.temperature = 5;
    expect_distribution(logits, params);
}

TEST(Sampler, Penalties) {
    const std::vector<float> logits = random_logits(60, 5);
    io::SamplingParams params = at_temperature(1);
    params.repetition_penalty = 1.7;
    expect_distribution(logits, params, {1, 2, 3, 3}, {4, 5, 5});
    params.frequency_penalty = 0.8;
    params.presence_penalty = -1.1;
    expect_distribution(logits, params, {1, 2, 3, 3}, {3, 4, 5, 5, 5});
    params.repetition_penalty = 1;
    params.top_p = 0.8;
    expect_distribution(logits, params, {1, 2}, {3, 4, 5, 5, 5}, {7, 9});
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
    Sampler sampler;
    std::vector<float> logits{1, 5, 2, 5, 5};
    EXPECT_EQ(sampler.sample({logits, at_temperature(0)}).token, 1);
    EXPECT_EQ(sampler.sample({logits, at_temperature(1e-6)}).token, 1);
    const int32_t banned[] = {1};
    EXPECT_EQ(sampler.sample({logits, at_temperature(0), nullptr, banned}).token, 3);
    io::SamplingParams params = at_temperature(0);
    params.presence_penalty = 1;
    TokenCounts counts;
    counts.add_output(3);
    logits = {1, 5, 2, 5, 5};
    EXPECT_EQ(sampler.sample({logits, params, &counts, banned}).token, 4);
}

TEST(Sampler, DependsOnItsKeyAlone) {
    const std::vector<float> logits = random_logits(5000, 6);
    io::SamplingParams params = at_temperature(1);
    Sampler used;
    for (uint32_t i = 0; i < 50; ++i) {
        params.top_p = i % 2 == 0 ? 1 : 0.9;
        std::vector<float> a = logits;
        std::vector<float> b = logits;
        Sampler fresh;
        EXPECT_EQ(used.sample({a, params, nullptr, {}, {9, 8, 0, i}}).token,
                  fresh.sample({b, params, nullptr, {}, {9, 8, 0, i}}).token);
    }
    // Rounding of the logits moves hardly any draw.
    int n_moved = 0;
    for (uint32_t i = 0; i < 500; ++i) {
        std::vector<float> a = logits;
        std::vector<float> b = logits;
        for (size_t j = 0; j < b.size(); ++j)
            b[j] *= 1 + (j % 3 == 0 ? 1e-6F : -1e-6F);
        n_moved += used.sample({a, params, nullptr, {}, {9, 8, 0, i}}).token !=
                   used.sample({b, params, nullptr, {}, {9, 8, 0, i}}).token;
    }
    EXPECT_LE(n_moved, 3);
}

TEST(Sampler, RefusesWhatIsNotFinite) {
    Sampler sampler;
    for (const float bad :
         {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
        for (const size_t at : {size_t{0}, size_t{8}, size_t{18}}) {
            std::vector<float> logits(19, 0.5F);
            logits[at] = bad;
            try {
                sampler.sample({logits, at_temperature(0)});
                FAIL() << "no error";
            } catch (const Error& error) {
                EXPECT_THAT(error.what(), HasSubstr("1 of 19 logits are not finite"));
                EXPECT_THAT(error.what(), HasSubstr("of token " + std::to_string(at)));
            }
            EXPECT_THROW(log_sum_exp(logits), Error);
        }
    }
    std::vector<float> logits{1, 2};
    const int32_t all[] = {0, 1};
    EXPECT_THROW(sampler.sample({logits, at_temperature(1), nullptr, all}), Error);
    const int32_t outside[] = {2};
    EXPECT_THROW(sampler.sample({logits, at_temperature(1), nullptr, outside}), Error);
    EXPECT_THROW(log_sum_exp({}), Error);
}

TEST(LogSoftmax, AgreesWithTheReference) {
    const std::vector<float> logits = random_logits(1003, 7, 8);
    double sum = 0;
    for (const float logit : logits)
        sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(log_sum_exp(logits), std::log(sum), 1e-6);

    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    const Logprobs result = logprobs_of(logits, order[30], 20);
    EXPECT_EQ(result.rank, 31);
    EXPECT_NEAR(result.logprob, logits[static_cast<size_t>(order[30])] - std::log(sum), 1e-5);
    EXPECT_EQ(result.logprob, logprob_of(logits, order[30]));
    ASSERT_EQ(result.top.size(), 20U);
    for (size_t i = 0; i < 20; ++i) {
        EXPECT_EQ(result.top[i].token, order[i]);
        EXPECT_NEAR(result.top[i].logprob, logits[static_cast<size_t>(order[i])] - std::log(sum), 1e-5);
    }
    const float equal[] = {1, 1, 1};
    const Logprobs ties = logprobs_of(equal, 2, 5);
    EXPECT_EQ(ties.rank, 1);
    ASSERT_EQ(ties.top.size(), 3U);
    EXPECT_EQ(ties.top[0].token, 0);
    EXPECT_EQ(ties.top[2].token, 2);
    EXPECT_TRUE(logprobs_of(equal, 2, 0).top.empty());
    EXPECT_THROW(logprobs_of(equal, 3, 0), Error);
}

TEST(Sampler, LogprobsAreOfTheRawDistribution) {
    const std::vector<float> logits = random_logits(100, 8);
    io::SamplingParams params = at_temperature(0.2);
    params.logprobs = 3;
    params.repetition_penalty = 2;
    params.top_k = 5;
    TokenCounts counts;
    counts.add_prompt(std::vector<int32_t>{1, 2, 3, 50});
    const int32_t banned[] = {4};
    Sampler sampler;
    std::vector<float> work = logits;
    const Sampled sampled = sampler.sample({work, params, &counts, banned, {1, 1, 1, 1}});
    const Logprobs wanted = logprobs_of(logits, sampled.token, 3);
    ASSERT_TRUE(sampled.logprobs);
    EXPECT_EQ(sampled.logprobs->logprob, wanted.logprob);
    EXPECT_EQ(sampled.logprobs->rank, wanted.rank);
    ASSERT_EQ(sampled.logprobs->top.size(), 3U);
    for (size_t i = 0; i < 3; ++i)
        EXPECT_EQ(sampled.logprobs->top[i].token, wanted.top[i].token);
    params.logprobs.reset();
    work = logits;
    EXPECT_FALSE(sampler.sample({work, params, &counts, {}, {1, 1, 1, 1}}).logprobs);
}

}  // namespace
}  // namespace mixserve::engine
