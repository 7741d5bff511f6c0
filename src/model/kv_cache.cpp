#include "model/kv_cache.h"

namespace mixserve::model {
namespace {

int64_t layer_block_bytes(const ModelConfig& config, const RankLayout& layout, int64_t block_size,
                          DType dtype) {
    return layout.kv_heads.size() * block_size * config.head_dim * size_of(dtype);
}

}  // namespace

int64_t kv_block_bytes(const ModelConfig& config, const RankLayout& layout, int64_t block_size, DType dtype) {
    return 2 * layout.layers.size() * layer_block_bytes(config, layout, block_size, dtype);
}

KvCache make_kv_cache(const ModelConfig& config, const RankLayout& layout, int64_t n_blocks,
                      int64_t block_size, DType dtype, device::Memory memory) {
    KvCache cache{n_blocks, block_size, {}, {}};
    const int64_t half = n_blocks * layer_block_bytes(config, layout, block_size, dtype);
    for (int64_t l = 0; l < layout.layers.size(); ++l) {
        device::Buffer& buffer = cache.storage.emplace_back(static_cast<size_t>(2 * half), memory);
        cache.layers.push_back({buffer.data(), buffer.data() + half, dtype, block_size,
                                layout.kv_heads.size(), config.head_dim});
    }
    return cache;
}

}  // namespace mixserve::model
