#include "model/config.h"
#include "model/pass.h"

namespace mixserve::model {

// OLMoE (transformers: models/olmoe): queries and keys normalised over all heads together, optional clipping.

ModelConfig read_olmoe(ConfigReader& reader) {
    ModelConfig config;
    config.family = Family::olmoe;
    read_common(reader, config);
    config.moe_intermediate_size = reader.integer("intermediate_size");
    config.norm_topk_prob = reader.boolean("norm_topk_prob", false);
    config.qk_norm = QkNorm::all_heads;
    config.qkv_bias = config.o_bias = reader.boolean("attention_bias", false);
    if (reader.has("clip_qkv")) config.clip_qkv = reader.number("clip_qkv");
    return config;
}

void forward_olmoe(Pass& p) {
    p.embed();  // x [T/p, H]
    for (const LayerWeights& layer : p.layers()) {
        p.begin_layer(layer);
        p.norm(layer.input_norm);            // normed [T/p, H]
        const float* h = p.gather_normed();  // h [T, H]
        p.project_qkv(h, layer);             // qkv [T, (q + 2 kv) D]
        p.norm_all_heads(layer.q_norm, layer.k_norm);
        if (p.config().clip_qkv) p.clip_qkv(*p.config().clip_qkv);
        p.rotate();
        p.attend(layer);       // attention [T, q D]
        p.project_out(layer);  // x [T/p, H] += sum over ranks

        p.norm(layer.post_attention_norm);  // normed [T/p, H]
        p.experts(layer);                   // moe [T/p, H]
        p.add_moe_to_residual();            // x += moe
    }
}

}  // namespace mixserve::model
