#include "comm/assignment.h"

#include <limits>

#include "base/error.h"

namespace mixserve::comm {

void Assignment::build(int64_t n_rows, int64_t k, const int32_t* experts, const float* weights, Range local) {
    require(n_rows <= std::numeric_limits<int32_t>::max(),
            "{} rows in one step are too many; use smaller steps", n_rows);
    offsets_.assign(static_cast<size_t>(local.size() + 1), 0);
    const int64_t n_entries = n_rows * k;
    for (int64_t i = 0; i < n_entries; ++i) {
        if (local.contains(experts[i])) ++offsets_[static_cast<size_t>(experts[i] - local.begin + 1)];
    }
    for (size_t e = 1; e < offsets_.size(); ++e)
        offsets_[e] += offsets_[e - 1];
    next_.assign(offsets_.begin(), offsets_.end() - 1);
    rows_.resize(static_cast<size_t>(offsets_.back()));
    gate_weights_.resize(rows_.size());
    for (int64_t row = 0; row < n_rows; ++row) {
        for (int64_t i = row * k; i < (row + 1) * k; ++i) {
            if (!local.contains(experts[i])) continue;
            const auto at = static_cast<size_t>(next_[static_cast<size_t>(experts[i] - local.begin)]++);
            rows_[at] = static_cast<int32_t>(row);
            gate_weights_[at] = weights[i];
        }
    }
}

}  // namespace mixserve::comm
