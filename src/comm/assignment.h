#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/partition.h"
#include "kernels/experts.h"

namespace mixserve::comm {

/// The rows that each of this rank's experts takes, in the form that the products want. Keeps its memory
/// between uses.
class Assignment {
  public:
    /// Groups the entries of `n_rows` rows by expert: row r has experts[r * k + j] with weights[r * k + j], j
    /// in [0, k). Entries of experts outside of `local` are left out.
    void build(int64_t n_rows, int64_t k, const int32_t* experts, const float* weights, Range local);

    /// The same in steps: entries by rising row, then group().
    void clear() { entries_.clear(); }
    void add(int64_t row, int64_t expert, float weight) {
        entries_.push_back({static_cast<int32_t>(row), static_cast<int32_t>(expert), weight});
    }
    void group(Range local);

    kernels::ExpertRows view() const { return {offsets_, rows_, gate_weights_}; }

  private:
    struct Entry {
        int32_t row;
        int32_t expert;
        float weight;
    };
    std::vector<Entry> entries_;
    std::vector<int64_t> offsets_;
    std::vector<int64_t> next_;
    std::vector<int32_t> rows_;
    std::vector<float> gate_weights_;
};

}  // namespace mixserve::comm
