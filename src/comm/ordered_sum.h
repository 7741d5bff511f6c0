#pragma once

#include <cstdint>
#include <span>

namespace mixserve::comm {

/// out[i] = parts[0][i] + parts[1][i] + ..., added in that order; with `accumulate` the sum is added to
/// out[i]. parts: at least one array of `n` values each. `out` may be none of them.
void ordered_sum(std::span<const float* const> parts, int64_t n, float* out, bool accumulate);

}  // namespace mixserve::comm
