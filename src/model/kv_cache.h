#pragma once

#include <cstdint>
#include <vector>

#include "device/buffer.h"
#include "kernels/attention.h"
#include "model/config.h"
#include "model/layout.h"

namespace mixserve::model {

/// Keys and values of this rank's layers and heads, in blocks that sequences own (vLLM's paged attention,
/// Kwon et al. 2023).
struct KvCache {
    int64_t n_blocks = 0;
    int64_t block_size = 0;
    std::vector<device::Buffer> storage;  // a layer: keys, then values
    std::vector<kernels::KvCache> layers;
};

/// Bytes of one block over all layers of this rank.
int64_t kv_block_bytes(const ModelConfig& config, const RankLayout& layout, int64_t block_size, DType dtype);

KvCache make_kv_cache(const ModelConfig& config, const RankLayout& layout, int64_t n_blocks,
                      int64_t block_size, DType dtype, device::Memory memory = device::Memory::host);

}  // namespace mixserve::model
