#include "comm/ordered_sum.h"

#include <algorithm>
#include <array>

namespace mixserve::comm {
namespace {

// Values summed at a time: the running sum stays in the first-level cache.
constexpr int64_t tile = 1024;

void add_to(const float* __restrict part, int64_t n, float* __restrict sum) {
    for (int64_t i = 0; i < n; ++i)
        sum[i] += part[i];
}

void add_pair(const float* __restrict a, const float* __restrict b, int64_t n, float* __restrict sum) {
    for (int64_t i = 0; i < n; ++i)
        sum[i] = a[i] + b[i];
}

}  // namespace

void ordered_sum(std::span<const float* const> parts, int64_t n, float* out, bool accumulate) {
    std::array<float, tile> scratch;
    for (int64_t at = 0; at < n; at += tile) {
        const int64_t length = std::min(tile, n - at);
        float* sum = accumulate ? scratch.data() : out + at;
        if (parts.size() == 1) {
            std::copy_n(parts[0] + at, length, sum);
        } else {
            add_pair(parts[0] + at, parts[1] + at, length, sum);
        }
        for (size_t p = 2; p < parts.size(); ++p)
            add_to(parts[p] + at, length, sum);
        if (accumulate) add_to(sum, length, out + at);
    }
}

}  // namespace mixserve::comm
