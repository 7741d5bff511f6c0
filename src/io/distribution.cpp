#include "io/distribution.h"

#include <algorithm>
#include <cmath>

namespace mixserve::io {
namespace {

constexpr size_t max_exact = 65536;
constexpr double smallest = 1e-6;
constexpr double bin_ratio = 1.004;
const double log_ratio = std::log(bin_ratio);
constexpr size_t n_bins = 8192;  // up to 1e-6 * 1.004^8191 = 1.6e8

size_t bin_of(double value) {
    if (!(value > smallest)) return 0;
    const double bin = 1 + std::floor(std::log(value / smallest) / log_ratio);
    return static_cast<size_t>(std::min(bin, static_cast<double>(n_bins - 1)));
}

}  // namespace

void Distribution::add(double value) {
    min_ = count_ == 0 ? value : std::min(min_, value);
    max_ = count_ == 0 ? value : std::max(max_, value);
    sum_ += value;
    ++count_;
    if (bins_.empty() && exact_.size() == max_exact) spill();
    if (bins_.empty()) {
        exact_.push_back(value);
    } else {
        ++bins_[bin_of(value)];
    }
}

void Distribution::spill() {
    bins_.resize(n_bins);
    for (const double value : exact_)
        ++bins_[bin_of(value)];
    exact_ = {};
}

double Distribution::mean() const {
    return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

double Distribution::binned_value(int64_t i) const {
    if (i <= 0) return min_;
    if (i >= count_ - 1) return max_;
    size_t bin = 0;
    for (int64_t n_before = bins_[0]; n_before <= i; n_before += bins_[bin])
        ++bin;
    // The geometric middle of the bin.
    const double middle =
        bin == 0 ? smallest : smallest * std::exp((static_cast<double>(bin) - 0.5) * log_ratio);
    return std::clamp(middle, min_, max_);
}

double Distribution::percentile(double share) const {
    if (count_ == 0) return 0;
    const double place = share * static_cast<double>(count_ - 1);
    const auto below = static_cast<int64_t>(std::floor(place));
    const int64_t above = std::min(below + 1, count_ - 1);
    double low = 0;
    double high = 0;
    if (bins_.empty()) {
        std::vector<double> values = exact_;
        const auto middle = values.begin() + below;
        std::nth_element(values.begin(), middle, values.end());
        low = *middle;
        high = above == below ? low : *std::min_element(middle + 1, values.end());
    } else {
        low = binned_value(below);
        high = binned_value(above);
    }
    return low + (high - low) * (place - static_cast<double>(below));
}

}  // namespace mixserve::io
