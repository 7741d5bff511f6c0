#include "model/config.h"
#include "model/pass.h"

namespace mixserve::model {

// Qwen2-MoE (transformers: models/qwen2_moe): biases on q, k and v; a shared expert behind a sigmoid gate.

ModelConfig read_qwen2_moe(ConfigReader& reader) {
    ModelConfig config;
    config.family = Family::qwen2_moe;
    read_common(reader, config);
    read_qwen_sparsity(reader, config);
    config.qkv_bias = reader.boolean("qkv_bias", true);
    config.shared_expert_intermediate_size = reader.integer("shared_expert_intermediate_size");
    if (config.shared_expert_intermediate_size < 0)
        reader.refuse("shared_expert_intermediate_size", "is negative");
    const bool slides = reader.boolean("use_sliding_window", false);
    const int64_t window = reader.integer("sliding_window", 0);
    const int64_t n_full = reader.integer("max_window_layers", 0);
    for (int64_t layer = n_full; slides && layer < config.num_hidden_layers; ++layer) {
        config.sliding_window[static_cast<size_t>(layer)] = window;
    }
    read_layer_types(reader, config, slides ? window : 0);
    return config;
}

void forward_qwen2_moe(Pass& p) {
    p.embed();  // x [T/p, H]
    for (const LayerWeights& layer : p.layers()) {
        p.begin_layer(layer);
        p.norm(layer.input_norm);            // normed [T/p, H]
        const float* h = p.gather_normed();  // h [T, H]
        p.project_qkv(h, layer);             // qkv [T, (q + 2 kv) D]
        p.rotate();
        p.attend(layer);       // attention [T, q D]
        p.project_out(layer);  // x [T/p, H] += sum over ranks

        p.norm(layer.post_attention_norm);  // normed [T/p, H]
        if (layer.sparse) {
            p.experts(layer);  // moe [T/p, H]
            if (layer.shared_expert)
                p.add_shared_expert(layer, p.gather_normed());  // moe += sigmoid(gate) shared
            p.add_moe_to_residual();                            // x += moe
        } else {
            p.add_dense_mlp(layer, p.gather_normed());
        }
    }
}

}  // namespace mixserve::model
