#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "comm/communicator.h"
#include "device/stream.h"

namespace mixserve::app {

/// One decoder layer with routed experts; the defaults are those of OLMoE-1B-7B.
struct LayerShape {
    int64_t hidden_size = 2048;
    int64_t num_experts = 64;
    int64_t num_experts_per_tok = 8;
    int64_t intermediate_size = 1024;
    int64_t num_attention_heads = 16;
    int64_t num_key_value_heads = 16;
    int64_t head_dim = 128;
    DType dtype = DType::bf16;  // of the weights
    DType kv_dtype = DType::f32;
};

/// A step of `n_rows` rows: decode, each row the next token of a sequence of its own with `context` positions
/// before it; or prefill, all rows one sequence from its beginning.
struct LayerStep {
    bool decode = true;
    int64_t n_rows = 1;
    int64_t context = 0;
};

/// What one kernel took (median over the repetitions, of the slowest rank), and what all ranks had to do in
/// it: bytes of weights and KV cache read at least once, and operations.
struct KernelTime {
    std::string name;
    double seconds = 0;
    double n_bytes = 0;
    double n_flops = 0;
};

/// Runs `step` `repetitions` times after two for warming up, with fresh uniformly random routing each time,
/// on all ranks at once, each with a layer of its own. The last entry is the layer as a whole.
std::vector<KernelTime> measure_layer(const LayerShape& shape, const LayerStep& step, int repetitions,
                                      device::Stream& stream, const comm::Communicator& world);

/// The memory that measure_layer() takes for weights, in bytes.
int64_t weight_bytes(const LayerShape& shape);

}  // namespace mixserve::app
