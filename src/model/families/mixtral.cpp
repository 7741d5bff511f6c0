#include "model/config.h"
#include "model/pass.h"

namespace mixserve::model {

// Mixtral (transformers: models/mixtral): every layer sparse, weights of the chosen experts normalised to
// one.

ModelConfig read_mixtral(ConfigReader& reader) {
    ModelConfig config;
    config.family = Family::mixtral;
    read_common(reader, config);
    config.moe_intermediate_size = reader.integer("intermediate_size");
    config.norm_topk_prob = true;
    config.sliding_window.assign(config.sliding_window.size(), reader.integer("sliding_window", 0));
    return config;
}

void forward_mixtral(Pass& p) {
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
        p.experts(layer);                   // moe [T/p, H]
        p.add_moe_to_residual();            // x += moe
    }
}

}  // namespace mixserve::model
