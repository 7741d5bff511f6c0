#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/json.h"
#include "base/partition.h"

namespace mixserve::io {

/// How unevenly the router chose. All ratios are largest over mean, 1: even.
struct ExpertLoad {
    double experts_max_over_mean = 1;  // tokens of an expert, within a layer; mean over layers
    double parts_max_over_mean = 1;    // the same of the parts that the strategy spreads the experts over
    int64_t worst_layer = 0;           // where one expert has most against its layer's mean
    int64_t worst_expert = 0;          // that one
    double worst_max_over_mean = 1;    // its ratio
};

/// `counts` [layers, num_experts]: tokens that chose an expert; layers without any are left out. `parts`: the
/// experts that are together in one place, as a node. Nothing where nothing was routed.
std::optional<ExpertLoad> expert_load_of(std::span<const int64_t> counts, int64_t num_experts,
                                         std::span<const Range> parts);

/// {"experts_max_over_mean","parts_max_over_mean","worst_layer","worst_expert","worst_max_over_mean"}
ordered_json to_json(const ExpertLoad& load);

}  // namespace mixserve::io
