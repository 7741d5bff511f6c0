#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace mixserve::test {

/// A tensor to be put into a safetensors file.
struct MadeTensor {
    std::string name;
    std::string dtype;  // as in safetensors: "BF16"
    std::vector<int64_t> shape;
    std::string bytes;
};

/// A tensor whose elements depend on `key` and their place, each a finite number that its type holds exactly.
MadeTensor make_tensor(const std::string& name, DType dtype, std::vector<int64_t> shape,
                       const std::string& key);
inline MadeTensor make_tensor(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    return make_tensor(name, dtype, std::move(shape), name);
}

/// A safetensors file with that header text.
std::string safetensors_bytes(const std::string& header, const std::string& data);
std::string safetensors_bytes(const std::vector<MadeTensor>& tensors);

/// The tensors of a small MoE checkpoint of two layers, the second with experts, as Qwen3-MoE names them (or
/// Mixtral).
struct MadeModel {
    int64_t hidden_size = 24;
    int64_t intermediate_size = 10;
    int64_t num_experts = 5;
    DType dtype = DType::bf16;
    bool mixtral = false;
    bool fused = false;  // experts as transformers 5 may save them; the same values
};
std::vector<MadeTensor> make_model(const MadeModel& model);
std::string make_config(const MadeModel& model);

/// Writes config.json, tokenizer.json and model.safetensors into `folder`.
void write_checkpoint(const std::string& folder, const MadeModel& model);

}  // namespace mixserve::test
