#include "comm/assignment.h"

#include <limits>

#include "base/error.h"

namespace mixserve::comm {

void Assignment::build(int64_t n_rows, int64_t k, const int32_t* experts, const float* weights, Range local) {
    require(n_rows <= std::numeric_limits<int32_t>::max(),
            "{} rows in one step are too many; use smaller steps", n_rows);
    clear();
    for (int64_t row = 0; row < n_rows; ++row) {
        for (int64_t i = row * k; i < (row + 1) * k; ++i)
            add(row, experts[i], weights[i]);
    }
    group(local);
}

void Assignment::group(Range local) {
    offsets_.assign(static_cast<size_t>(local.size() + 1), 0);
    for (const Entry& entry : entries_) {
        if (local.contains(entry.expert)) ++offsets_[static_cast<size_t>(entry.expert - local.begin + 1)];
    }
    for (size_t e = 1; e < offsets_.size(); ++e)
        offsets_[e] += offsets_[e - 1];
    next_.assign(offsets_.begin(), offsets_.end() - 1);
    rows_.resize(static_cast<size_t>(offsets_.back()));
    gate_weights_.resize(rows_.size());
    for (const Entry& entry : entries_) {
        if (!local.contains(entry.expert)) continue;
        const auto at = static_cast<size_t>(next_[static_cast<size_t>(entry.expert - local.begin)]++);
        rows_[at] = entry.row;
        gate_weights_[at] = entry.weight;
    }
}

}  // namespace mixserve::comm
