#include "model/names.h"

namespace mixserve::model {

LayerNames::LayerNames(const ModelConfig& config, int64_t layer)
    : prefix("model.layers." + std::to_string(layer) + ".") {
    const bool mixtral = config.family == Family::mixtral;
    const std::string moe = prefix + (mixtral ? "block_sparse_moe." : "mlp.");
    router = moe + "gate.weight";
    experts_gate = moe + (mixtral ? "experts.w1.weight" : "experts.gate_proj.weight");
    experts_up = moe + (mixtral ? "experts.w3.weight" : "experts.up_proj.weight");
    experts_down = moe + (mixtral ? "experts.w2.weight" : "experts.down_proj.weight");
}

}  // namespace mixserve::model
