#pragma once

#include <cstdint>

namespace mixserve {

/// A half-open range of indices.
struct Range {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t size() const { return end - begin; }
    bool contains(int64_t i) const { return begin <= i && i < end; }
};

/// Part `part` of `n_items` items cut into `n_parts` contiguous parts; the first `n_items % n_parts` parts
/// have one more.
constexpr Range partition(int64_t n_items, int64_t n_parts, int64_t part) {
    const int64_t small = n_items / n_parts;
    const int64_t n_large = n_items % n_parts;
    const int64_t begin = part * small + (part < n_large ? part : n_large);
    return {begin, begin + small + (part < n_large ? 1 : 0)};
}

/// The part that item `item` lies in, under partition().
constexpr int64_t part_of(int64_t n_items, int64_t n_parts, int64_t item) {
    const int64_t small = n_items / n_parts;
    const int64_t n_large = n_items % n_parts;
    const int64_t boundary = n_large * (small + 1);
    return item < boundary ? item / (small + 1) : n_large + (item - boundary) / small;
}

}  // namespace mixserve
