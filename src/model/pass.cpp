#include "model/pass.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "kernels/router.h"

namespace mixserve::model {

namespace {

/// to[i] = from[i], in the stream's memory.
void copy_values(const float* from, int64_t n, float* to, device::Stream& stream) {
    if (stream.gpu() != nullptr) {
        stream.gpu()->copy_inside(to, from, static_cast<size_t>(n) * sizeof(float));
    } else {
        std::copy_n(from, n, to);
    }
}

}  // namespace

std::vector<int32_t> kv_heads_of(const ModelConfig& config, const RankLayout& layout) {
    std::vector<int32_t> heads;
    const int64_t q_per_kv = config.num_attention_heads / config.num_key_value_heads;
    for (int64_t h = layout.q_heads.begin; h < layout.q_heads.end; ++h)
        heads.push_back(static_cast<int32_t>(h / q_per_kv - layout.kv_heads.begin));
    return heads;
}

StepInputs place_inputs(const PassContext& context, const Batch& batch, Activations& activations) {
    const PhaseScope phase(context.timer, Phase::attention);
    device::Stream& stream = context.stream;
    const int64_t n_padded_rows = batch.is_padded ? batch.n_tokens() : 0;
    StepInputs inputs{batch.tokens, batch.positions, batch.logit_rows, nullptr,
                      kernels::plan_attention(batch.sequences, context.kv_head_of,
                                              context.kv_cache.layers.at(0), stream, n_padded_rows)};
    if (stream.gpu() == nullptr) return inputs;
    std::vector<int32_t> all = batch.tokens;
    all.insert(all.end(), batch.positions.begin(), batch.positions.end());
    all.insert(all.end(), batch.logit_rows.begin(), batch.logit_rows.end());
    all.push_back(static_cast<int32_t>(batch.n_tokens() - batch.n_padding));
    device::Buffer& buffer = activations.step_numbers;
    buffer.reserve(all.size() * sizeof(int32_t), stream.memory());
    stream.upload(buffer.data(), all.data(), all.size() * sizeof(int32_t));
    const auto numbers = std::span<const int32_t>(buffer.as<int32_t>()).first(all.size());
    const size_t n = batch.tokens.size();
    inputs.tokens = numbers.first(n);
    inputs.positions = numbers.subspan(n, n);
    inputs.logit_rows = numbers.subspan(2 * n, batch.logit_rows.size());
    if (n_padded_rows > 0) inputs.n_used = &numbers.back();
    return inputs;
}

Pass::Pass(const PassContext& context, int64_t n_tokens, const StepInputs& inputs, Activations& activations)
    : c_(context),
      inputs_(inputs),
      a_(activations),
      owned_(context.group.owned(n_tokens)),
      n_tokens_(n_tokens),
      q_width_(context.layout.q_heads.size() * context.config.head_dim),
      kv_width_(context.layout.kv_heads.size() * context.config.head_dim) {
    qkv_stride_ = q_width_ + 2 * kv_width_;
}

float* Pass::floats(device::Buffer& buffer, int64_t n) const {
    buffer.reserve(static_cast<size_t>(n) * sizeof(float), c_.stream.memory());
    return buffer.as<float>().data();
}

void Pass::embed() {
    if (!c_.layout.has_embedding) return;  // a later pipeline stage: x has come from the one before
    const PhaseScope phase(c_.timer, Phase::attention);
    const int64_t hidden = c_.config.hidden_size;
    // Each row comes from the one rank that holds it; the others add zeros, so that the sum is exact.
    float* rows = c_.group.start_reduce(n_tokens_, hidden);
    kernels::embed_rows(c_.weights.embedding.weight, c_.layout.vocabulary.begin, inputs_.tokens, rows,
                        c_.stream);
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
    copy_values(a_.normed.as<float>().data(), n_owned() * hidden, rows + owned_.begin * hidden, c_.stream);
    return c_.group.finish_gather();
}

void Pass::project_qkv(const float* h, const LayerWeights& layer) {
    kernels::linear(h, c_.config.hidden_size, n_tokens_, layer.qkv.weight,
                    layer.qkv_bias.empty() ? nullptr : layer.qkv_bias.data(),
                    floats(a_.qkv, n_tokens_ * qkv_stride_), qkv_stride_, c_.stream);
}

void Pass::norm_each_head(std::span<const float> q_weight, std::span<const float> k_weight) {
    const int64_t dim = c_.config.head_dim;
    kernels::norm_heads(a_.qkv.as<float>().data(), qkv_stride_, n_tokens_,
                        {q_width_ / dim, kv_width_ / dim, dim, q_weight.data(), k_weight.data(),
                         static_cast<float>(c_.config.rms_norm_eps)},
                        c_.stream);
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
    kernels::sum_of_squares(qkv, qkv_stride_, n_tokens_, q_width_, own, 2, c_.stream);
    kernels::sum_of_squares(qkv + q_width_, qkv_stride_, n_tokens_, counts_keys ? kv_width_ : 0, own + 1, 2,
                            c_.stream);
    const float* all = c_.group.finish_gather();

    const auto scale = [&](float* x, std::span<const float> weight, int64_t total_width,
                           const float* all_sums) {
        kernels::scale_by_sums(x, qkv_stride_, n_tokens_,
                               {weight.data(), static_cast<int64_t>(weight.size()), total_width, all_sums,
                                n_ranks, 2 * n_tokens_, 2, static_cast<float>(config.rms_norm_eps)},
                               c_.stream);
    };
    scale(qkv, q_weight, config.q_size(), all);
    scale(qkv + q_width_, k_weight, config.kv_size(), all + 1);
}

void Pass::clip_qkv(double limit) {
    kernels::clip(a_.qkv.as<float>().data(), n_tokens_ * qkv_stride_, static_cast<float>(limit), c_.stream);
}

void Pass::rotate() {
    const int64_t n_heads = (q_width_ + kv_width_) / c_.config.head_dim;  // queries and keys lie side by side
    kernels::apply_rope(a_.qkv.as<float>().data(), qkv_stride_, n_heads, c_.config.head_dim,
                        inputs_.positions, c_.rope.cos.as<float>().data(), c_.rope.sin.as<float>().data(),
                        c_.stream);
}

void Pass::attend(const LayerWeights& layer) {
    const kernels::KvCache& cache =
        c_.kv_cache.layers[static_cast<size_t>(layer.index - c_.layout.layers.begin)];
    const float* qkv = a_.qkv.as<float>().data();
    kernels::store_kv(qkv + q_width_, qkv + q_width_ + kv_width_, qkv_stride_, inputs_.attention, cache,
                      c_.stream);
    const float scale = 1.0f / std::sqrt(static_cast<float>(c_.config.head_dim));
    kernels::paged_attention(qkv, qkv_stride_, scale,
                             c_.config.sliding_window[static_cast<size_t>(layer.index)], inputs_.attention,
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
    a_.expert_ids.reserve(static_cast<size_t>(n * k) * sizeof(int32_t), c_.stream.memory());
    int32_t* ids = a_.expert_ids.as<int32_t>().data();
    float* weights = floats(a_.expert_weights, n * k);
    {
        const PhaseScope phase(c_.timer, Phase::router);
        float* logits = floats(a_.router, n * config.num_experts);
        kernels::router_logits(normed, n, layer.router.weight, logits, c_.stream);
        kernels::route_top_k(logits, n, config.num_experts, k, config.norm_topk_prob, ids, weights, c_.stream,
                             inputs_.n_used);
    }
    const auto n_choices = static_cast<size_t>(n * k);
    if (c_.expert_counts != nullptr) {
        kernels::count_choices(ids, n * k, config.num_experts,
                               c_.expert_counts + layer.index * config.num_experts, c_.stream);
    }
    if (c_.observe_router) show_router(layer.index, {ids, n_choices});
    c_.exchange.forward(normed, {n, k, {ids, n_choices}, {weights, n_choices}}, layer.experts.weights,
                        floats(a_.moe, n * config.hidden_size));
}

void Pass::show_router(int64_t layer, std::span<const int32_t> ids) const {
    if (c_.stream.gpu() == nullptr) return c_.observe_router(layer, ids, owned_.begin);
    std::vector<int32_t> host(ids.size());
    c_.stream.gpu()->copy_out(host.data(), ids.data(), ids.size_bytes());
    c_.stream.gpu()->synchronize();
    c_.observe_router(layer, host, owned_.begin);
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

void forward(const PassContext& context, const Batch& batch, const StepInputs& inputs,
             Activations& activations) {
    const PhaseScope phase(context.timer, Phase::attention);
    Pass pass(context, batch.n_tokens(), inputs, activations);
    context.exchange.begin_step(pass.n_owned());
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
