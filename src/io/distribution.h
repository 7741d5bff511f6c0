#pragma once

#include <cstdint>
#include <vector>

namespace mixserve::io {

/// Collects values >= 0 and tells their mean and percentiles in bounded memory: exact for the first 65,536,
/// then from a histogram whose bins are 0.4 % wide (below 1e-6 all are one bin).
class Distribution {
  public:
    void add(double value);
    int64_t count() const { return count_; }
    /// 0 without values, as are the percentiles.
    double mean() const;
    double min() const { return count_ == 0 ? 0 : min_; }
    double max() const { return count_ == 0 ? 0 : max_; }
    /// `share` in [0, 1]; between two values linearly, as NumPy does.
    double percentile(double share) const;

  private:
    void spill();
    double binned_value(int64_t i) const;  // the i-th smallest

    std::vector<double> exact_;
    std::vector<int64_t> bins_;  // empty while exact
    int64_t count_ = 0;
    double sum_ = 0;
    double min_ = 0;
    double max_ = 0;
};

}  // namespace mixserve::io
