#include "engine/block_pool.h"

#include <numeric>

#include "base/error.h"

namespace mixserve::engine {

BlockPool::BlockPool(int64_t n_blocks, int64_t block_size)
    : n_blocks_(n_blocks), block_size_(block_size), free_(static_cast<size_t>(n_blocks)) {
    std::iota(free_.rbegin(), free_.rend(), 0);  // taken from the back: low numbers first
}

bool BlockPool::grow(std::vector<int32_t>& blocks, int64_t n_tokens) {
    const int64_t n_missing = blocks_for(n_tokens) - static_cast<int64_t>(blocks.size());
    if (n_missing > n_free()) return false;
    for (int64_t i = 0; i < n_missing; ++i) {
        blocks.push_back(free_.back());
        free_.pop_back();
    }
    return true;
}

void BlockPool::release(std::vector<int32_t>& blocks) {
    free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
    blocks.clear();
    MIXSERVE_ASSERT(n_free() <= n_blocks_);
}

}  // namespace mixserve::engine
