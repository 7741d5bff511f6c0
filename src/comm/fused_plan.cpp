#include "comm/fused_plan.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "kernels/wire.h"

namespace mixserve::comm {

FusedPlan::FusedPlan(int n_nodes, int64_t num_experts) : blocks_(static_cast<size_t>(n_nodes)) {
    for (int node = 0; node < n_nodes; ++node) {
        const Range experts = partition(num_experts, n_nodes, node);
        require(experts.size() <= std::numeric_limits<uint16_t>::max(),
                "{} experts a node are too many for the exchange", experts.size());
        for (int64_t e = experts.begin; e < experts.end; ++e) {
            node_of_expert_.push_back(node);
            local_expert_.push_back(static_cast<uint16_t>(e - experts.begin));
        }
    }
}

void FusedPlan::build(const Routing& routing) {
    for (Block& block : blocks_) {
        block.tokens.clear();
        block.entry_offsets.assign(1, 0);
        block.experts.clear();
        block.weights.clear();
    }
    row_offsets_.assign(static_cast<size_t>(routing.n_tokens + 1), 0);
    for (int64_t t = 0; t < routing.n_tokens; ++t) {
        for (int64_t j = 0; j < routing.k; ++j) {
            const auto entry = static_cast<size_t>(t * routing.k + j);
            const auto expert = static_cast<size_t>(routing.experts[entry]);
            Block& block = blocks_[static_cast<size_t>(node_of_expert_[expert])];
            if (block.tokens.empty() || block.tokens.back() != t) {
                block.tokens.push_back(static_cast<int32_t>(t));
                block.entry_offsets.push_back(block.entry_offsets.back());
                ++row_offsets_[static_cast<size_t>(t + 1)];
            }
            block.experts.push_back(local_expert_[expert]);
            block.weights.push_back(routing.weights[entry]);
            ++block.entry_offsets.back();
        }
    }
    for (size_t t = 1; t < row_offsets_.size(); ++t)
        row_offsets_[t] += row_offsets_[t - 1];
    n_rows_ = row_offsets_.back();
    rows_of_tokens_.resize(static_cast<size_t>(n_rows_));
    next_row_.assign(row_offsets_.begin(), row_offsets_.end() - 1);
    int64_t row = 0;
    for (Block& block : blocks_) {
        block.first_row = row;
        for (const int32_t token : block.tokens) {
            rows_of_tokens_[static_cast<size_t>(next_row_[static_cast<size_t>(token)]++)] =
                static_cast<int32_t>(row++);
        }
    }
}

void FusedPlan::pack(const FusedLayout& layout, int node, int64_t begin, int64_t end, const float* x,
                     ChunkView chunk) const {
    const Block& block = blocks_[static_cast<size_t>(node)];
    const int64_t first_entry = block.entry_offsets[static_cast<size_t>(begin)];
    const int64_t n_entries = block.entry_offsets[static_cast<size_t>(end)] - first_entry;
    const int64_t n_rows = end - begin;
    const int64_t n_bytes = FusedLayout::rows_offset(n_rows, n_entries) + n_rows * layout.row_bytes();
    const auto n_block_rows = static_cast<int64_t>(block.tokens.size());
    chunk.header() = {.n_rows = static_cast<int32_t>(n_rows),
                      .n_entries = static_cast<int32_t>(n_entries),
                      .n_chunks = static_cast<int32_t>(layout.n_chunks(n_block_rows)),
                      .n_bytes = static_cast<int32_t>(n_bytes)};
    std::copy_n(block.weights.data() + first_entry, n_entries, chunk.weights());
    std::copy_n(block.experts.data() + first_entry, n_entries, chunk.experts());
    for (int64_t r = begin; r < end; ++r) {
        const auto at = static_cast<size_t>(r);
        chunk.row_entries()[r - begin] =
            static_cast<uint16_t>(block.entry_offsets[at + 1] - block.entry_offsets[at]);
    }
    std::byte* wire = chunk.rows();
    for (int64_t r = begin; r < end; ++r) {
        const int64_t token = block.tokens[static_cast<size_t>(r)];
        encode_rows(layout.wire_type, x + token * layout.hidden_size, 1, layout.hidden_size, wire);
        wire += layout.row_bytes();
    }
}

}  // namespace mixserve::comm
