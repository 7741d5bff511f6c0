#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernel_data.h"
#include "kernels/logits.h"

namespace mixserve::kernels {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
const size_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 63, 64, 100, 255, 256, 257, 1000, 4096, 50'001};

std::vector<float> random_logits(size_t n, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 4);
    std::vector<float> logits(n);
    std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
    return logits;
}

/// The widest instructions that this machine has, then AVX2 where it has that, then none.
class Logits : public testing::TestWithParam<int64_t> {
  protected:
    void SetUp() override {
        if (GetParam() == HWY_AVX2 && (hwy::SupportedTargets() & HWY_AVX2) == 0)
            GTEST_SKIP() << "no AVX2 here";
        if (GetParam() != 0) only_.emplace(GetParam());
    }

  private:
    std::optional<test::OnlyTargets> only_;
};
std::string name_of(const testing::TestParamInfo<int64_t>& target) {
    return target.param == 0 ? "widest" : hwy::TargetName(target.param);
}
INSTANTIATE_TEST_SUITE_P(Targets, Logits, testing::Values(0, HWY_AVX2, HWY_SCALAR), name_of);

TEST_P(Logits, LookFindsTheLargestAndWhatIsNotFinite) {
    for (const size_t n : sizes) {
        std::vector<float> logits = random_logits(n, static_cast<uint32_t>(n));
        const LogitsLook good = look_at(logits);
        EXPECT_EQ(good.largest, *std::max_element(logits.begin(), logits.end())) << n;
        EXPECT_EQ(good.n_not_finite, 0) << n;
        for (const size_t place : {size_t{0}, n / 2, n - 1}) {
            for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
                std::vector<float> other = logits;
                other[place] = bad;
                EXPECT_EQ(look_at(other).n_not_finite, 1) << n << " at " << place;
                if (n > 1 && bad < 0) {
                    EXPECT_EQ(look_at(other).largest, *std::max_element(other.begin(), other.end()));
                }
            }
        }
    }
    EXPECT_EQ(look_at(std::vector<float>(40, std::numeric_limits<float>::quiet_NaN())).largest, -infinity);
    EXPECT_EQ(look_at({}).largest, -infinity);
}

TEST_P(Logits, WeightsAreNearExp) {
    std::vector<float> x;
    for (int i = 0; i <= 870'000; ++i)
        x.push_back(-static_cast<float>(i) * 1e-4F);
    std::vector<float> weights(x.size());
    sum_of_exp(x, 0, 1, -infinity, weights.data());
    EXPECT_EQ(weights[0], 1);
    for (size_t i = 0; i < x.size(); ++i) {
        const double wanted = std::exp(static_cast<double>(x[i]));
        ASSERT_LE(std::abs(static_cast<double>(weights[i]) - wanted), 2.5e-7 * wanted) << x[i];
    }
}

TEST_P(Logits, SumCountsWhatItShould) {
    const float scale = 1 / 0.8F;
    for (const size_t n : sizes) {
        std::vector<float> logits = random_logits(n, static_cast<uint32_t>(n) + 1);
        if (n > 3) logits[n / 3] = -infinity;
        const float largest = *std::max_element(logits.begin(), logits.end());
        if (n > 7) logits[n - 2] = largest - 90;
        const float lowest = largest - 5;
        std::vector<float> weights(n, -1);
        const double sum = sum_of_exp(logits, largest, scale, lowest, weights.data());
        double wanted = 0;
        for (size_t i = 0; i < n; ++i) {
            const double one =
                logits[i] >= lowest
                    ? std::exp((static_cast<double>(logits[i]) - static_cast<double>(largest)) *
                               static_cast<double>(scale))
                    : 0;
            EXPECT_NEAR(static_cast<double>(weights[i]), one, 1e-6) << n << " at " << i;
            if (one == 0) {
                EXPECT_EQ(weights[i], 0) << n << " at " << i;
            }
            wanted += one;
        }
        EXPECT_NEAR(sum, wanted, 1e-6 * wanted) << n;
        EXPECT_EQ(sum, sum_of_exp(logits, largest, scale, lowest, nullptr)) << n;
    }
    EXPECT_EQ(sum_of_exp(std::vector<float>{0, -200}, 0, 1, -infinity, nullptr), 1);
    EXPECT_EQ(sum_of_exp({}, 0, 1, -infinity, nullptr), 0);
}

TEST_P(Logits, IndicesAtLeastABound) {
    for (const size_t n : sizes) {
        const std::vector<float> values = random_logits(n, static_cast<uint32_t>(n) + 2);
        for (const float bound : {-infinity, -3.0F, values[n / 2], 6.0F, infinity}) {
            std::vector<int32_t> wanted;
            for (size_t i = 0; i < n; ++i) {
                if (values[i] >= bound) wanted.push_back(static_cast<int32_t>(i));
            }
            // One more, to see that nothing is written behind.
            std::vector<int32_t> indices(n + 1, -7);
            const auto n_found = static_cast<size_t>(indices_at_least(values, bound, indices.data()));
            EXPECT_EQ(indices.back(), -7);
            indices.resize(n_found);
            EXPECT_EQ(indices, wanted) << n << " values, bound " << bound;
        }
    }
}

}  // namespace
}  // namespace mixserve::kernels
