#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mixserve::model {
namespace {

/// YaRN (Peng et al. 2023): high frequencies stay, low ones are divided by the factor, between them a ramp.
void scale_yarn(const RopeConfig& rope, int64_t head_dim, std::vector<float>& frequencies) {
    const double dim = static_cast<double>(head_dim);
    const auto correction_dim = [&](double rotations) {
        return dim *
               std::log(static_cast<double>(rope.original_max_position_embeddings) /
                        (rotations * 2 * std::numbers::pi)) /
               (2 * std::log(rope.theta));
    };
    double low = correction_dim(rope.beta_fast);
    double high = correction_dim(rope.beta_slow);
    if (rope.truncate) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < frequencies.size(); ++i) {
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        const double f = frequencies[i];
        frequencies[i] = static_cast<float>(f / rope.factor * ramp + f * (1.0 - ramp));
    }
}

/// Llama 3.1: wavelengths past the original context are divided by the factor, those well inside stay.
void scale_llama3(const RopeConfig& rope, std::vector<float>& frequencies) {
    const double context = static_cast<double>(rope.original_max_position_embeddings);
    for (float& frequency : frequencies) {
        const double f = frequency;
        const double wavelength = 2 * std::numbers::pi / f;
        if (wavelength < context / rope.high_freq_factor) continue;
        if (wavelength > context / rope.low_freq_factor) {
            frequency = static_cast<float>(f / rope.factor);
            continue;
        }
        const double smooth =
            (context / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
        frequency = static_cast<float>((1 - smooth) * f / rope.factor + smooth * f);
    }
}

std::vector<float> frequencies_of(const ModelConfig& config, int64_t n_positions) {
    const RopeConfig& rope = config.rope;
    const double dim = static_cast<double>(config.head_dim);
    double theta = rope.theta;
    const double original = static_cast<double>(config.max_position_embeddings);
    if (rope.type == RopeType::dynamic && n_positions > config.max_position_embeddings) {
        const double stretch = rope.factor * static_cast<double>(n_positions) / original - (rope.factor - 1);
        theta *= std::pow(stretch, dim / (dim - 2));
    }
    std::vector<float> frequencies(static_cast<size_t>(config.head_dim / 2));
    for (size_t i = 0; i < frequencies.size(); ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
        frequencies[i] = 1.0f / std::pow(static_cast<float>(theta), exponent);
    }
    if (rope.type == RopeType::linear) {
        for (float& f : frequencies)
            f /= static_cast<float>(rope.factor);
    }
    if (rope.type == RopeType::yarn) scale_yarn(rope, config.head_dim, frequencies);
    if (rope.type == RopeType::llama3) scale_llama3(rope, frequencies);
    if (rope.frequency_dtype == DType::bf16) {
        for (float& f : frequencies)
            f = bf16_to_f32(f32_to_bf16(f));
    }
    return frequencies;
}

}  // namespace

RopeTable make_rope_table(const ModelConfig& config, int64_t n_positions) {
    const std::vector<float> frequencies = frequencies_of(config, n_positions);
    const float magnitude = static_cast<float>(config.rope.attention_factor);
    RopeTable table;
    const size_t n = static_cast<size_t>(n_positions) * frequencies.size();
    table.cos.resize(n);
    table.sin.resize(n);
    size_t i = 0;
    for (int64_t position = 0; position < n_positions; ++position) {
        for (const float frequency : frequencies) {
            const float angle = static_cast<float>(position) * frequency;
            table.cos[i] = std::cos(angle) * magnitude;
            table.sin[i] = std::sin(angle) * magnitude;
            ++i;
        }
    }
    return table;
}

}  // namespace mixserve::model
