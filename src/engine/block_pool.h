#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mixserve::engine {

/// The blocks of the KV cache that no sequence owns. All ranks of a node have the same blocks, so one pool
/// serves them.
class BlockPool {
  public:
    BlockPool(int64_t n_blocks, int64_t block_size);

    int64_t block_size() const { return block_size_; }
    int64_t n_blocks() const { return n_blocks_; }
    int64_t n_free() const { return static_cast<int64_t>(free_.size()); }
    int64_t n_used() const { return n_blocks_ - n_free(); }
    int64_t blocks_for(int64_t n_tokens) const { return (n_tokens + block_size_ - 1) / block_size_; }

    /// Grows `blocks` until it holds `n_tokens`; false, and nothing changed, when too few are free.
    bool grow(std::vector<int32_t>& blocks, int64_t n_tokens);
    /// Takes all of them back; `blocks` is empty afterwards.
    void release(std::vector<int32_t>& blocks);

  private:
    int64_t n_blocks_;
    int64_t block_size_;
    std::vector<int32_t> free_;
};

}  // namespace mixserve::engine
