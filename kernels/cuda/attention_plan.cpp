#include "kernels/cuda/attention_plan.h"

#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "kernels/attention.h"

namespace mixserve::kernels::cuda {
namespace {

/// Arrays one behind the other, each at a multiple of 16 bytes, for one upload.
class Packer {
  public:
    template <class T>
    size_t add(const std::vector<T>& values) {
        const size_t at = (bytes_.size() + 15) / 16 * 16;
        bytes_.resize(at + values.size() * sizeof(T));
        copy_bytes(bytes_.data() + at, values.data(), values.size() * sizeof(T));
        return at;
    }
    const std::vector<std::byte>& bytes() const { return bytes_; }

  private:
    std::vector<std::byte> bytes_;
};

struct HostPlan {
    std::vector<PlannedSequence> sequences;
    std::vector<PlannedToken> tokens;
    std::vector<int32_t> block_tables;
    std::vector<int32_t> head_offsets;
    std::vector<int32_t> heads;
    std::vector<AttentionItem> items;
    std::vector<AttentionItem> tensor_items;
    std::vector<AttentionMerge> merges;
    int32_t n_partials = 0;
};

void add_items(HostPlan& plan, int32_t sequence, int32_t kv_head, int32_t n_heads, const SequenceRows& rows,
               bool tensor_cores) {
    const auto n_rows = static_cast<int32_t>(rows.n_tokens) * n_heads;
    if (n_rows == 0) return;
    if (n_rows <= attention_tile) {
        const auto context = static_cast<int32_t>(rows.first_position + rows.n_tokens);
        const int32_t n_parts = (context + attention_part - 1) / attention_part;
        if (n_parts == 1) {
            plan.items.push_back({sequence, kv_head, 0, -1, -1});
            return;
        }
        plan.merges.push_back({sequence, kv_head, plan.n_partials, n_parts});
        for (int32_t part = 0; part < n_parts; ++part)
            plan.items.push_back({sequence, kv_head, 0, part, plan.n_partials++});
        return;
    }
    auto& items = tensor_cores ? plan.tensor_items : plan.items;
    const int32_t tile = tensor_cores ? attention_tensor_tile : attention_tile;
    // The last rows have the longest context: they begin first.
    for (int32_t row = (n_rows - 1) / tile * tile; row >= 0; row -= tile)
        items.push_back({sequence, kv_head, row, -1, -1});
}

template <class T>
void pad_to(std::vector<T>& values, int64_t n, const T& padding) {
    values.resize(static_cast<size_t>(n), padding);
}

void pad(HostPlan& plan, int64_t n_rows, int64_t n_kv_heads) {
    MIXSERVE_ASSERT(static_cast<int64_t>(plan.tokens.size()) <= n_rows);
    pad_to(plan.sequences, n_rows, PlannedSequence{});
    pad_to(plan.tokens, n_rows, PlannedToken{-1, 0});
    const auto padded = [](const auto& values) { return padded_size(static_cast<int64_t>(values.size())); };
    pad_to(plan.items, padded(plan.items), AttentionItem{-1, 0, 0, -1, -1});
    pad_to(plan.tensor_items, padded(plan.tensor_items), AttentionItem{-1, 0, 0, -1, -1});
    if (plan.merges.empty()) return;
    pad_to(plan.merges, n_rows * n_kv_heads, AttentionMerge{-1, 0, 0, 0});
    plan.n_partials = static_cast<int32_t>(plan.items.size());
}

}  // namespace

bool attends_on_tensor_cores(const KvCache& cache) {
    return cache.dtype != DType::f32 && (cache.head_dim == 64 || cache.head_dim == 128);
}

AttentionPlan plan_attention(std::span<const SequenceRows> sequences, std::span<const int32_t> kv_head_of,
                             const KvCache& cache, device::Stream& stream, int64_t n_padded_rows) {
    require(cache.head_dim <= 256,
            "heads of {} are more than the GPU's attention takes (256); use --backend cpu", cache.head_dim);
    HostPlan host;
    host.head_offsets.push_back(0);
    for (int32_t kv_head = 0; kv_head < cache.n_kv_heads; ++kv_head) {
        for (size_t head = 0; head < kv_head_of.size(); ++head) {
            if (kv_head_of[head] == kv_head) host.heads.push_back(static_cast<int32_t>(head));
        }
        host.head_offsets.push_back(static_cast<int32_t>(host.heads.size()));
    }
    const bool tensor_cores = attends_on_tensor_cores(cache);
    for (size_t s = 0; s < sequences.size(); ++s) {
        const SequenceRows& rows = sequences[s];
        host.sequences.push_back({static_cast<int32_t>(rows.first_row), static_cast<int32_t>(rows.n_tokens),
                                  static_cast<int32_t>(rows.first_position),
                                  static_cast<int32_t>(host.block_tables.size())});
        for (int32_t t = 0; t < rows.n_tokens; ++t)
            host.tokens.push_back({static_cast<int32_t>(s), t});
        const int64_t context = rows.first_position + rows.n_tokens;
        const int64_t n_blocks = (context + cache.block_size - 1) / cache.block_size;
        host.block_tables.insert(host.block_tables.end(), rows.block_table, rows.block_table + n_blocks);
        for (int32_t kv_head = 0; kv_head < cache.n_kv_heads; ++kv_head) {
            const auto at = static_cast<size_t>(kv_head);
            add_items(host, static_cast<int32_t>(s), kv_head,
                      host.head_offsets[at + 1] - host.head_offsets[at], rows, tensor_cores);
        }
    }

    if (n_padded_rows > 0) pad(host, n_padded_rows, cache.n_kv_heads);

    // Last what differs from step to step in size also where the plan is padded.
    Packer packer;
    const size_t sequences_at = packer.add(host.sequences);
    const size_t tokens_at = packer.add(host.tokens);
    const size_t head_offsets_at = packer.add(host.head_offsets);
    const size_t heads_at = packer.add(host.heads);
    const size_t items_at = packer.add(host.items);
    const size_t tensor_items_at = packer.add(host.tensor_items);
    const size_t merges_at = packer.add(host.merges);
    const size_t block_tables_at = packer.add(host.block_tables);
    const size_t n_bytes = packer.bytes().size();
    std::byte* device = stream.device_scratch(device::ScratchSlot::batch, n_bytes);
    stream.upload(device, packer.bytes().data(), n_bytes);

    AttentionPlan plan;
    plan.sequences = reinterpret_cast<const PlannedSequence*>(device + sequences_at);
    plan.tokens = reinterpret_cast<const PlannedToken*>(device + tokens_at);
    plan.n_tokens = static_cast<int64_t>(host.tokens.size());
    plan.block_tables = reinterpret_cast<const int32_t*>(device + block_tables_at);
    plan.head_offsets = reinterpret_cast<const int32_t*>(device + head_offsets_at);
    plan.heads = reinterpret_cast<const int32_t*>(device + heads_at);
    plan.items = reinterpret_cast<const AttentionItem*>(device + items_at);
    plan.n_items = static_cast<int64_t>(host.items.size());
    plan.tensor_items = reinterpret_cast<const AttentionItem*>(device + tensor_items_at);
    plan.n_tensor_items = static_cast<int64_t>(host.tensor_items.size());
    plan.merges = reinterpret_cast<const AttentionMerge*>(device + merges_at);
    plan.n_merges = static_cast<int64_t>(host.merges.size());
    plan.n_partials = host.n_partials;
    return plan;
}

}  // namespace mixserve::kernels::cuda
