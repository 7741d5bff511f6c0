#include "model/config.h"
#include "model/pass.h"

namespace mixserve::model {

// Qwen3-MoE (transformers: models/qwen3_moe): norms on each query and key head, routed experts, no shared
// expert.

ModelConfig read_qwen3_moe(ConfigReader& reader) {
    ModelConfig config;
    config.family = Family::qwen3_moe;
    read_common(reader, config);
    read_qwen_sparsity(reader, config);
    config.qk_norm = QkNorm::per_head;
    config.qkv_bias = config.o_bias = reader.boolean("attention_bias", false);
    const bool slides = reader.boolean("use_sliding_window", false);
    const int64_t window = reader.integer("sliding_window", 0);
    if (slides) config.sliding_window.assign(config.sliding_window.size(), window);
    reader.ignore({"max_window_layers"});
    return config;
}

void forward_qwen3_moe(Pass& p) {
    p.embed();  // x [T/p, H]
    for (const LayerWeights& layer : p.layers()) {
        p.begin_layer(layer);
        p.norm(layer.input_norm);            // normed [T/p, H]
        const float* h = p.gather_normed();  // h [T, H]
        p.project_qkv(h, layer);             // qkv [T, (q + 2 kv) D]
        p.norm_each_head(layer.q_norm, layer.k_norm);
        p.rotate();
        p.attend(layer);       // attention [T, q D]
        p.project_out(layer);  // x [T/p, H] += sum over ranks

        p.norm(layer.post_attention_norm);  // normed [T/p, H]
        if (layer.sparse) {
            p.experts(layer);         // moe [T/p, H]
            p.add_moe_to_residual();  // x += moe
        } else {
            p.add_dense_mlp(layer, p.gather_normed());
        }
    }
}

}  // namespace mixserve::model
