#pragma once

#include <cstdint>
#include <span>

namespace mixserve::kernels {

// What sampling does with the logits of one position, on the CPU, on the thread that calls.

/// The largest, and how many are NaN or infinite.
struct LogitsLook {
    float largest = 0;  // of those that are not NaN; -infinity where there is none
    int64_t n_not_finite = 0;
};
LogitsLook look_at(std::span<const float> logits);

/// The sum of exp((logit - largest) * scale), weights that are within 2 units in the last place of f32, over
/// the logits that are not below `lowest`; less than e^-87 counts as 0. No logit is above `largest`;
/// -infinity may be among them. In f64, in an order that depends on the size alone. `weights` [logits.size()]
/// gets each weight, or is null.
double sum_of_exp(std::span<const float> logits, float largest, float scale, float lowest, float* weights);

/// The indices, rising, of the values that are at least `bound`, to `indices` [values.size()]; returns how
/// many.
int64_t indices_at_least(std::span<const float> values, float bound, int32_t* indices);

}  // namespace mixserve::kernels
