#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention.h"

namespace mixserve::model {

/// The tokens that one group of ranks (a node; the world under `tp`) takes through the model in one step. All
/// its ranks have the same batch. May be empty: the ranks still pass through the layers with the others.
struct Batch {
    std::vector<int32_t> tokens;     // [T]
    std::vector<int32_t> positions;  // [T]
    std::vector<kernels::SequenceRows>
        sequences;  // cover all rows but padding, in order; block tables point into `block_tables`
    std::vector<int32_t> block_tables;
    std::vector<int32_t> logit_rows;  // rows of which logits are wanted, rising
    bool is_padded =
        false;  // on a GPU: the step is to be recorded, or replayed (kernels::plan_attention()) ..
    int64_t n_padding = 0;  // .. and has so many rows at the end that belong to no sequence
    int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
};

}  // namespace mixserve::model
