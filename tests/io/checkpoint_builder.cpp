#include "io/checkpoint_builder.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <numeric>

#include "base/json.h"
#include "support/test_support.h"

namespace mixserve::test {
namespace {

void put(float value, DType dtype, std::string& out) {
    if (dtype == DType::f32) {
        out.append(reinterpret_cast<const char*>(&value), sizeof value);
        return;
    }
    const uint16_t bits = dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
    out.append(reinterpret_cast<const char*>(&bits), sizeof bits);
}

std::string spelling(DType dtype) {
    return dtype == DType::f32 ? "F32" : dtype == DType::f16 ? "F16" : "BF16";
}

std::string concatenated(const std::vector<MadeTensor>& tensors) {
    std::string bytes;
    for (const MadeTensor& tensor : tensors)
        bytes += tensor.bytes;
    return bytes;
}

}  // namespace

MadeTensor make_tensor(const std::string& name, DType dtype, std::vector<int64_t> shape,
                       const std::string& key) {
    const int64_t n = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    MadeTensor tensor{name, spelling(dtype), std::move(shape), {}};
    uint64_t state = std::hash<std::string>()(key) | 1;
    for (int64_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        const auto numerator = static_cast<int>(state >> 56) - 128;  // eight bits fit the mantissa of bf16
        put(static_cast<float>(numerator) / 64.0f, dtype, tensor.bytes);
    }
    return tensor;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
    const uint64_t n = header.size();
    return std::string(reinterpret_cast<const char*>(&n), sizeof n) + header + data;
}

std::string safetensors_bytes(const std::vector<MadeTensor>& tensors) {
    ordered_json header;
    header["__metadata__"] = {{"format", "pt"}};
    size_t offset = 0;
    for (const MadeTensor& tensor : tensors) {
        header[tensor.name] = {{"dtype", tensor.dtype},
                               {"shape", tensor.shape},
                               {"data_offsets", {offset, offset + tensor.bytes.size()}}};
        offset += tensor.bytes.size();
    }
    return safetensors_bytes(header.dump(), concatenated(tensors));
}

std::vector<MadeTensor> make_model(const MadeModel& m) {
    const int64_t h = m.hidden_size;
    const int64_t i = m.intermediate_size;
    std::vector<MadeTensor> all;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
        all.push_back(make_tensor(name, m.dtype, std::move(shape)));
    };
    add("lm_head.weight", {17, h});
    add("model.embed_tokens.weight", {17, h});
    add("model.norm.weight", {h});
    add("model.layers.0.self_attn.o_proj.weight", {h, 2 * h});
    add("model.layers.0.self_attn.q_proj.weight", {2 * h, h});
    add("model.layers.0.input_layernorm.weight", {h});
    if (!m.mixtral) add("model.layers.0.mlp.down_proj.weight", {h, 3 * i});
    const std::string moe = m.mixtral && !m.fused ? "block_sparse_moe." : "mlp.";
    const std::string layer = "model.layers.1.";
    all.push_back(make_tensor(layer + moe + "gate.weight", m.dtype, {m.num_experts, h}, "router"));
    std::vector<MadeTensor> fused_gate_up;
    std::vector<MadeTensor> fused_down;
    for (int64_t e = 0; e < m.num_experts; ++e) {
        const std::string prefix = layer + moe + "experts." + std::to_string(e) + ".";
        const auto expert = [&](const char* qwen, const char* mixtral, std::vector<int64_t> shape) {
            return make_tensor(prefix + (m.mixtral ? mixtral : qwen) + ".weight", m.dtype, std::move(shape),
                               std::to_string(e) + qwen);
        };
        const MadeTensor gate = expert("gate_proj", "w1", {i, h});
        const MadeTensor up = expert("up_proj", "w3", {i, h});
        const MadeTensor down = expert("down_proj", "w2", {h, i});
        if (m.fused) {
            fused_gate_up.insert(fused_gate_up.end(), {gate, up});
            fused_down.push_back(down);
        } else {
            all.insert(all.end(), {gate, up, down});
        }
    }
    if (m.fused) {
        const std::string dtype = spelling(m.dtype);
        const std::string prefix = layer + moe + "experts.";
        all.push_back(
            {prefix + "gate_up_proj", dtype, {m.num_experts, 2 * i, h}, concatenated(fused_gate_up)});
        all.push_back({prefix + "down_proj", dtype, {m.num_experts, h, i}, concatenated(fused_down)});
    }
    return all;
}

std::string make_config(const MadeModel& m) {
    return ordered_json{{"model_type", m.mixtral ? "mixtral" : "qwen3_moe"},
                        {m.mixtral ? "num_local_experts" : "num_experts", m.num_experts},
                        {"hidden_size", m.hidden_size}}
        .dump(2);
}

void write_checkpoint(const std::string& folder, const MadeModel& model) {
    std::filesystem::create_directories(folder);
    write_file(folder + "/config.json", make_config(model));
    write_file(folder + "/tokenizer.json", R"({"version":"1.0","model":{}})");
    write_file(folder + "/model.safetensors", safetensors_bytes(make_model(model)));
}

}  // namespace mixserve::test
