#pragma once

#include <string>

#include "model/config.h"

namespace mixserve::model {

/// Names of a layer's tensors in the checkpoint and in the HDF5 model.
struct LayerNames {
    LayerNames(const ModelConfig& config, int64_t layer);
    std::string prefix;  // "model.layers.N."
    std::string router;
    std::string experts_gate;
    std::string experts_up;
    std::string experts_down;
};

}  // namespace mixserve::model
