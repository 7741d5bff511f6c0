#include "model/pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "kernels/router.h"

namespace mixserve::model {
namespace {

float* floats(device::Buffer& buffer, int64_t n) {
    buffer.reserve(static_cast<size_t>(n) * sizeof(float));
    return buffer.as<float>().data();
}

void widen_row(const kernels::Weight& w, int64_t row, float* out) {
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

/// Sum of squares in eight interleaved double chains: the order depends on `n` alone.
double sum_of_squares(const float* x, int64_t n) {
    double chains[8] = {};
    for (int64_t i = 0; i < n; ++i)
        chains[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return ((chains[0] + chains[1]) + (chains[2] + chains[3])) +
           ((chains[4] + chains[5]) + (chains[6] + chains[7]));
}

void scale_row(float* x, std::span<const float> weight, float scale) {
    for (size_t i = 0; i < weight.size(); ++i)
        x[i] = x[i] * scale * weight[i];
}

}  // namespace

Pass::Pass(const PassContext& context, const Batch& batch, Activations& activations)
    : c_(context),
      batch_(batch),
      a_(activations),
      owned_(context.group.owned(batch.n_tokens())),
      n_tokens_(batch.n_tokens()),
      q_width_(context.layout.q_heads.size() * context.config.head_dim),
      kv_width_(context.layout.kv_heads.size() * context.config.head_dim) {
    qkv_stride_ = q_width_ + 2 * kv_width_;
    const int64_t q_per_kv = c_.config.num_attention_heads / c_.config.num_key_value_heads;
    for (int64_t h = c_.layout.q_heads.begin; h < c_.layout.q_heads.end; ++h) {
        kv_head_of_.push_back(static_cast<int32_t>(h / q_per_kv - c_.layout.kv_heads.begin));
    }
}

void Pass::embed() {
    if (!c_.layout.has_embedding) return;  // a later pipeline stage: x has come from the one before
    const PhaseScope phase(c_.timer, Phase::attention);
    const int64_t hidden = c_.config.hidden_size;
    const Range vocabulary = c_.layout.vocabulary;
    // Each row comes from the one rank that holds it; the others add zeros, so that the sum is exact.
    float* rows = c_.group.start_reduce(n_tokens_, hidden);
    for (int64_t t = 0; t < n_tokens_; ++t) {
        const int64_t token = batch_.tokens[static_cast<size_t>(t)];
        if (vocabulary.contains(token)) {
            widen_row(c_.weights.embedding.weight, token - vocabulary.begin, rows + t * hidden);
        } else {
            std::fill_n(rows + t * hidden, hidden, 0.0f);
        }
    }
    c_.group.finish_reduce(floats(a_.x, n_owned() * hidden), false);
}

void Pass::begin_layer(const LayerWeights& layer) {
    layer_ = &layer;
    c_.timer.set_layer(static_cast<int32_t>(layer.index));
}

void Pass::norm(std::span<const float> weight) {
    const int64_t hidden = c_.config.hidden_size;
    kernels::rms_norm(a_.x.as<float>().data(), hidden, n_owned(), hidden, weight.data(),
                      static_cast<float>(c_.config.rms_norm_eps), floats(a_.normed, n_owned() * hidden),
                      hidden, c_.stream);
}

const float* Pass::gather_normed() {
    const int64_t hidden = c_.config.hidden_size;
    float* rows = c_.group.start_gather(n_tokens_, hidden);
    std::copy_n(a_.normed.as<float>().data(), n_owned() * hidden, rows + owned_.begin * hidden);
    return c_.group.finish_gather();
}

void Pass::project_qkv(const float* h, const LayerWeights& layer) {
    kernels::linear(h, c_.config.hidden_size, n_tokens_, layer.qkv.weight,
                    layer.qkv_bias.empty() ? nullptr : layer.qkv_bias.data(),
                    floats(a_.qkv, n_tokens_ * qkv_stride_), qkv_stride_, c_.stream);
}

void Pass::norm_each_head(std::span<const float> q_weight, std::span<const float> k_weight) {
    const int64_t dim = c_.config.head_dim;
    const auto epsilon = static_cast<float>(c_.config.rms_norm_eps);
    float* qkv = a_.qkv.as<float>().data();
    const int64_t n_heads = (q_width_ + kv_width_) / dim;
    for (int64_t head = 0; head < n_heads; ++head) {
        float* x = qkv + head * dim;
        const float* weight = head * dim < q_width_ ? q_weight.data() : k_weight.data();
        kernels::rms_norm(x, qkv_stride_, n_tokens_, dim, weight, epsilon, x, qkv_stride_, c_.stream);
    }
}

void Pass::norm_all_heads(std::span<const float> q_weight, std::span<const float> k_weight) {
    const ModelConfig& config = c_.config;
    const int64_t q_per_kv = config.num_attention_heads / config.num_key_value_heads;
    // Where several ranks share a key head, the first of them counts it.
    const bool counts_keys = c_.layout.q_heads.begin % q_per_kv == 0;
    float* qkv = a_.qkv.as<float>().data();

    const int64_t n_ranks = c_.group.size();
    float* sums = c_.group.start_gather(n_ranks, 2 * n_tokens_);  // [ranks, T, 2]
    float* own = sums + c_.group.rank() * 2 * n_tokens_;
    c_.stream.parallel_for(n_tokens_, [&](int64_t t, int) {
        const float* row = qkv + t * qkv_stride_;
        own[2 * t] = static_cast<float>(sum_of_squares(row, q_width_));
        own[2 * t + 1] = counts_keys ? static_cast<float>(sum_of_squares(row + q_width_, kv_width_)) : 0.0f;
    });
    const float* all = c_.group.finish_gather();

    const auto scale = [&](int64_t index, int64_t width) {
        float sum = 0.0f;
        for (int64_t r = 0; r < n_ranks; ++r)
            sum += all[r * 2 * n_tokens_ + index];
        return 1.0f / std::sqrt(sum / static_cast<float>(width) + static_cast<float>(config.rms_norm_eps));
    };
    c_.stream.parallel_for(n_tokens_, [&](int64_t t, int) {
        float* row = qkv + t * qkv_stride_;
        scale_row(row, q_weight, scale(2 * t, config.q_size()));
        scale_row(row + q_width_, k_weight, scale(2 * t + 1, config.kv_size()));
    });
}

void Pass::clip_qkv(double limit) {
    const auto bound = static_cast<float>(limit);
    for (float& v : a_.qkv.as<float>().first(static_cast<size_t>(n_tokens_ * qkv_stride_)))
        v = std::clamp(v, -bound, bound);
}

void Pass::rotate() {
    const int64_t n_heads = (q_width_ + kv_width_) / c_.config.head_dim;  // queries and keys lie side by side
    kernels::apply_rope(a_.qkv.as<float>().data(), qkv_stride_, n_heads, c_.config.head_dim, batch_.positions,
                        c_.rope.cos.data(), c_.rope.sin.data(), c_.stream);
}

void Pass::attend(const LayerWeights& layer) {
    const kernels::KvCache& cache =
        c_.kv_cache.layers[static_cast<size_t>(layer.index - c_.layout.layers.begin)];
    const float* qkv = a_.qkv.as<float>().data();
    kernels::store_kv(qkv + q_width_, qkv + q_width_ + kv_width_, qkv_stride_, batch_.sequences, cache,
                      c_.stream);
    const float scale = 1.0f / std::sqrt(static_cast<float>(c_.config.head_dim));
    kernels::paged_attention(qkv, qkv_stride_, c_.layout.q_heads.size(), kv_head_of_, scale,
                             c_.config.sliding_window[static_cast<size_t>(layer.index)], batch_.sequences,
                             cache, floats(a_.attention, n_tokens_ * q_width_), c_.stream);
}

void Pass::project_out(const LayerWeights& layer) {
    const int64_t hidden = c_.config.hidden_size;
    const float* bias = layer.o_bias.empty() || c_.group.rank() != 0 ? nullptr : layer.o_bias.data();
    float* partial = c_.group.start_reduce(n_tokens_, hidden);
    kernels::linear(a_.attention.as<float>().data(), q_width_, n_tokens_, layer.o.weight, bias, partial,
                    hidden, c_.stream);
    c_.group.finish_reduce(a_.x.as<float>().data(), true);
}

void Pass::experts(const LayerWeights& layer) {
    const ModelConfig& config = c_.config;
    const int64_t n = n_owned();
    const int64_t k = config.num_experts_per_tok;
    const float* normed = a_.normed.as<float>().data();
    a_.expert_ids.reserve(static_cast<size_t>(n * k) * sizeof(int32_t));
    int32_t* ids = a_.expert_ids.as<int32_t>().data();
    float* weights = floats(a_.expert_weights, n * k);
    {
        const PhaseScope phase(c_.timer, Phase::router);
        float* logits = floats(a_.router, n * config.num_experts);
        kernels::linear(normed, config.hidden_size, n, layer.router.weight, nullptr, logits,
                        config.num_experts, c_.stream);
        kernels::route_top_k(logits, n, config.num_experts, k, config.norm_topk_prob, ids, weights,
                             c_.stream);
    }
    const auto n_choices = static_cast<size_t>(n * k);
    if (c_.observe_router) c_.observe_router(layer.index, {ids, n_choices}, owned_.begin);
    c_.exchange.forward(normed, {n, k, {ids, n_choices}, {weights, n_choices}}, layer.experts.weights,
                        floats(a_.moe, n * config.hidden_size));
}

float* Pass::partial_mlp(const MlpWeights& mlp, const float* h) {
    const int64_t hidden = c_.config.hidden_size;
    const int64_t intermediate = mlp.gate.weight.n_out;
    float* gate = floats(a_.gate, n_tokens_ * intermediate);
    float* up = floats(a_.up, n_tokens_ * intermediate);
    kernels::linear(h, hidden, n_tokens_, mlp.gate.weight, nullptr, gate, intermediate, c_.stream);
    kernels::linear(h, hidden, n_tokens_, mlp.up.weight, nullptr, up, intermediate, c_.stream);
    kernels::silu_mul(gate, up, n_tokens_ * intermediate, gate, c_.stream);
    float* partial = c_.group.start_reduce(n_tokens_, hidden);
    kernels::linear(gate, intermediate, n_tokens_, mlp.down.weight, nullptr, partial, hidden, c_.stream);
    return partial;
}

void Pass::add_shared_expert(const LayerWeights& layer, const float* h) {
    const PhaseScope phase(c_.timer, Phase::experts);
    const int64_t hidden = c_.config.hidden_size;
    partial_mlp(*layer.shared_expert, h);
    float* shared = floats(a_.attention, std::max(n_tokens_ * q_width_, n_owned() * hidden));
    c_.group.finish_reduce(shared, false);
    float* gate = floats(a_.router, n_owned());
    kernels::linear(a_.normed.as<float>().data(), hidden, n_owned(), layer.shared_expert_gate.weight, nullptr,
                    gate, 1, c_.stream);
    kernels::add_gated(shared, gate, n_owned(), hidden, a_.moe.as<float>().data(), c_.stream);
}

void Pass::add_moe_to_residual() {
    kernels::add(a_.moe.as<float>().data(), n_owned() * c_.config.hidden_size, a_.x.as<float>().data(),
                 c_.stream);
}

void Pass::add_dense_mlp(const LayerWeights& layer, const float* h) {
    const PhaseScope phase(c_.timer, Phase::experts);
    partial_mlp(*layer.dense, h);
    c_.group.finish_reduce(a_.x.as<float>().data(), true);
}

void forward(const PassContext& context, const Batch& batch, Activations& activations) {
    const PhaseScope phase(context.timer, Phase::attention);
    Pass pass(context, batch, activations);
    switch (context.config.family) {
        case Family::qwen3_moe:
            forward_qwen3_moe(pass);
            break;
        case Family::qwen2_moe:
            forward_qwen2_moe(pass);
            break;
        case Family::mixtral:
            forward_mixtral(pass);
            break;
        case Family::olmoe:
            forward_olmoe(pass);
            break;
    }
    context.timer.set_layer(-1);
}

}  // namespace mixserve::model
