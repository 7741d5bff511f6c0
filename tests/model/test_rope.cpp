#include <gtest/gtest.h>

#include <cmath>

#include "model/rope.h"

namespace mixserve::model {
namespace {

ModelConfig config_with(RopeType type, double factor) {
    ModelConfig c;
    c.head_dim = 8;
    c.max_position_embeddings = 64;
    c.rope.type = type;
    c.rope.theta = 10000.0;
    c.rope.factor = factor;
    c.rope.original_max_position_embeddings = 32;
    return c;
}

/// The angle at position 1 is the frequency.
std::vector<double> frequencies(const ModelConfig& config, int64_t n_positions) {
    const RopeTable table = make_rope_table(config, n_positions);
    std::vector<double> result;
    for (size_t i = 0; i < 4; ++i)
        result.push_back(std::atan2(table.sin[4 + i], table.cos[4 + i]));
    return result;
}

void expect_frequencies(const ModelConfig& config, int64_t n_positions, std::vector<double> wanted) {
    const std::vector<double> found = frequencies(config, n_positions);
    for (size_t i = 0; i < wanted.size(); ++i)
        EXPECT_NEAR(found[i] / wanted[i], 1.0, 1e-5) << "frequency " << i;
}

TEST(Rope, Plain) {
    expect_frequencies(config_with(RopeType::plain, 1.0), 4, {1.0, 0.1, 0.01, 0.001});
}

TEST(Rope, LinearDividesAll) {
    expect_frequencies(config_with(RopeType::linear, 4.0), 4, {0.25, 0.025, 0.0025, 0.00025});
}

TEST(Rope, DynamicChangesNothingWithinTheModelsLength) {
    expect_frequencies(config_with(RopeType::dynamic, 2.0), 64, {1.0, 0.1, 0.01, 0.001});
    // base * (2 * 128 / 64 - 1)^(8 / 6) = 10000 * 3^(4/3)
    const double base = 10000.0 * std::pow(3.0, 4.0 / 3.0);
    expect_frequencies(config_with(RopeType::dynamic, 2.0), 128,
                       {1.0, std::pow(base, -0.25), std::pow(base, -0.5), std::pow(base, -0.75)});
}

TEST(Rope, YarnKeepsHighFrequenciesAndDividesLowOnes) {
    ModelConfig c = config_with(RopeType::yarn, 4.0);
    c.rope.attention_factor = 1.25;
    // correction dims: 8 ln(32 / (2 pi 32)) / (2 ln 10000) = -0.798 -> 0, and 8 ln(32 / 2 pi) / (2 ln 10000)
    // = 0.707 -> 1
    expect_frequencies(c, 4, {1.0, 0.025, 0.0025, 0.00025});
    c.rope.original_max_position_embeddings = 4096;
    // 8 ln(4096 / 64 pi) / (2 ln 1e4) = 1.309 -> 1, 8 ln(4096 / 2 pi) / (2 ln 1e4) = 2.814 -> 3: the ramp is
    // 0, 0, 1/2, 1
    expect_frequencies(c, 4, {1.0, 0.1, 0.5 * 0.01 + 0.5 * 0.0025, 0.00025});
    const RopeTable table = make_rope_table(c, 4);
    EXPECT_NEAR(std::hypot(table.cos[9], table.sin[9]), 1.25, 1e-6)
        << "cos and sin carry the attention factor";
}

TEST(Rope, Llama3SmoothsBetweenTheTwoWavelengths) {
    ModelConfig c = config_with(RopeType::llama3, 8.0);
    c.rope.original_max_position_embeddings = 256;
    // wavelengths 6.28 and 62.8 stay (256 / 4 = 64), 628 and 6283 are past 256 and divided
    expect_frequencies(c, 4, {1.0, 0.1, 0.00125, 0.000125});
    c.rope.original_max_position_embeddings = 1024;
    // 628 lies between 256 and 1024: smooth = (1024 / 628.3 - 1) / 3
    const double smooth = (1024.0 / (200.0 * M_PI) - 1.0) / 3.0;
    expect_frequencies(c, 4, {1.0, 0.1, (1 - smooth) * 0.01 / 8 + smooth * 0.01, 0.000125});
}

}  // namespace
}  // namespace mixserve::model
