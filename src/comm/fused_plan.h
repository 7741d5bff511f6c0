#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/fused_layout.h"

namespace mixserve::comm {

/// What a rank sends to each node, and where the sums that come back go. Keeps its memory between layers.
class FusedPlan {
  public:
    FusedPlan(int n_nodes, int64_t num_experts);

    void build(const Routing& routing);

    /// The owned tokens with an expert on `node`, each once, rising.
    std::span<const int32_t> tokens(int node) const { return blocks_[static_cast<size_t>(node)].tokens; }
    int64_t n_rows() const { return n_rows_; }
    /// The first of a node's rows among the rows of all nodes, which lie by rising node.
    int64_t first_row(int node) const { return blocks_[static_cast<size_t>(node)].first_row; }

    /// A token's rows among the rows of all nodes, by rising node.
    std::span<const int32_t> rows_of_token(int64_t token) const {
        const auto begin = static_cast<size_t>(row_offsets_[static_cast<size_t>(token)]);
        const auto end = static_cast<size_t>(row_offsets_[static_cast<size_t>(token) + 1]);
        return std::span(rows_of_tokens_).subspan(begin, end - begin);
    }

    /// Writes rows [begin, end) of a node's block as a message. x [n_tokens, hidden_size].
    void pack(const FusedLayout& layout, int node, int64_t begin, int64_t end, const float* x,
              ChunkView chunk) const;

  private:
    struct Block {
        std::vector<int32_t> tokens;
        std::vector<int64_t> entry_offsets;  // [n_rows + 1]
        std::vector<uint16_t> experts;       // [n_entries], counted from the node's first expert
        std::vector<float> weights;          // [n_entries]
        int64_t first_row = 0;
    };
    std::vector<int32_t> node_of_expert_;  // [num_experts]
    std::vector<uint16_t> local_expert_;   // [num_experts]
    std::vector<Block> blocks_;            // [n_nodes]
    std::vector<int64_t> row_offsets_;     // [n_tokens + 1]
    std::vector<int32_t> rows_of_tokens_;  // [n_rows]
    std::vector<int64_t> next_row_;        // [n_tokens]
    int64_t n_rows_ = 0;
};

}  // namespace mixserve::comm
