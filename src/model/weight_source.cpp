#include "model/weight_source.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "model/names.h"

namespace mixserve::model {
namespace {

class FileWeights final : public WeightSource {
  public:
    explicit FileWeights(const io::ModelFile& file) : file_(file) {}
    const io::TensorInfo& tensor(const std::string& name) const override { return file_.tensor(name); }
    void read(const std::string& name, std::span<const int64_t> offset, std::span<const int64_t> count,
              void* out) const override {
        file_.read(name, offset, count, out);
    }

  private:
    const io::ModelFile& file_;
};

/// Finalizer of SplitMix64 (Steele et al. 2014).
inline uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

class DummyWeights final : public WeightSource {
  public:
    DummyWeights(const ModelConfig& config, uint64_t seed) : seed_(seed) {
        for (io::TensorInfo& info : expected_tensors(config))
            tensors_.emplace(info.name, std::move(info));
    }

    const io::TensorInfo& tensor(const std::string& name) const override {
        const auto it = tensors_.find(name);
        require_usage(it != tensors_.end(), "dummy weights: the model has no tensor '{}'", name);
        return it->second;
    }

    void read(const std::string& name, std::span<const int64_t> offset, std::span<const int64_t> count,
              void* out) const override {
        const io::TensorInfo& info = tensor(name);
        const int64_t n_in =
            info.shape.size() < 2 ? 0 : info.shape[info.shape.size() - (info.transposed ? 2 : 1)];
        const bool is_norm = name.find("norm") != std::string::npos;
        const float scale = n_in > 0 && name.find("embed") == std::string::npos
                                ? 2.4f / std::sqrt(static_cast<float>(n_in))
                                : (is_norm ? 0.5f : 1.7f);
        const Generator generator{mix(seed_ ^ XXH3_64bits(name.data(), name.size())), scale,
                                  is_norm ? 1.0f : 0.0f, info.dtype};
        auto* cursor = static_cast<std::byte*>(out);
        fill(generator, info.shape, offset, count, 0, 0, cursor);
    }

  private:
    struct Generator {
        uint64_t key;
        float scale;  // values are uniform in center +- scale / 2
        float center;
        DType dtype;

        void run(int64_t first, int64_t n, std::byte* out) const {
            for (int64_t i = 0; i < n; ++i) {
                const uint64_t bits = mix(key + static_cast<uint64_t>(first + i) * 0x9e3779b97f4a7c15ULL);
                const float unit = static_cast<float>(static_cast<int64_t>(bits >> 40)) * 0x1p-24f - 0.5f;
                store(center + unit * scale, i, out);
            }
        }
        void store(float value, int64_t i, std::byte* out) const {
            if (dtype == DType::f32) {
                std::memcpy(out + 4 * i, &value, 4);
            } else {
                const uint16_t bits = dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
                std::memcpy(out + 2 * i, &bits, 2);
            }
        }
    };

    static void fill(const Generator& generator, std::span<const int64_t> shape,
                     std::span<const int64_t> offset, std::span<const int64_t> count, size_t dimension,
                     int64_t base, std::byte*& cursor) {
        if (dimension + 1 == shape.size()) {
            generator.run(base + offset[dimension], count[dimension], cursor);
            cursor += count[dimension] * size_of(generator.dtype);
            return;
        }
        for (int64_t i = 0; i < count[dimension]; ++i) {
            fill(generator, shape, offset, count, dimension + 1,
                 (base + offset[dimension] + i) * shape[dimension + 1], cursor);
        }
    }

    uint64_t seed_;
    std::map<std::string, io::TensorInfo> tensors_;
};

void add_mlp(std::vector<io::TensorInfo>& all, const ModelConfig& c, const std::string& prefix,
             int64_t intermediate) {
    const auto add = [&](const std::string& name, bool transposed) {
        all.push_back({prefix + name, c.dtype, {intermediate, c.hidden_size}, transposed, 0});
    };
    add("gate_proj.weight", false);
    add("up_proj.weight", false);
    add("down_proj.weight", true);
}

std::string shape_text(std::span<const int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

std::unique_ptr<WeightSource> weights_from_file(const io::ModelFile& file) {
    return std::make_unique<FileWeights>(file);
}

std::unique_ptr<WeightSource> dummy_weights(const ModelConfig& config, uint64_t seed) {
    return std::make_unique<DummyWeights>(config, seed);
}

std::vector<io::TensorInfo> expected_tensors(const ModelConfig& c) {
    std::vector<io::TensorInfo> all;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, bool transposed = false) {
        all.push_back({name, c.dtype, std::move(shape), transposed, 0});
    };
    add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
    add("model.norm.weight", {c.hidden_size});
    if (!c.tie_word_embeddings) add("lm_head.weight", {c.vocab_size, c.hidden_size});
    for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
        const LayerNames names(c, l);
        const std::string attention = names.prefix + "self_attn.";
        add(names.prefix + "input_layernorm.weight", {c.hidden_size});
        add(names.prefix + "post_attention_layernorm.weight", {c.hidden_size});
        add(attention + "q_proj.weight", {c.q_size(), c.hidden_size});
        add(attention + "k_proj.weight", {c.kv_size(), c.hidden_size});
        add(attention + "v_proj.weight", {c.kv_size(), c.hidden_size});
        add(attention + "o_proj.weight", {c.q_size(), c.hidden_size}, true);
        if (c.qkv_bias) {
            add(attention + "q_proj.bias", {c.q_size()});
            add(attention + "k_proj.bias", {c.kv_size()});
            add(attention + "v_proj.bias", {c.kv_size()});
        }
        if (c.o_bias) add(attention + "o_proj.bias", {c.hidden_size});
        if (c.qk_norm != QkNorm::none) {
            const bool per_head = c.qk_norm == QkNorm::per_head;
            add(attention + "q_norm.weight", {per_head ? c.head_dim : c.q_size()});
            add(attention + "k_norm.weight", {per_head ? c.head_dim : c.kv_size()});
        }
        if (!c.sparse[static_cast<size_t>(l)]) {
            add_mlp(all, c, names.prefix + "mlp.", c.dense_intermediate_size);
            continue;
        }
        add(names.router, {c.num_experts, c.hidden_size});
        add(names.experts_gate, {c.num_experts, c.moe_intermediate_size, c.hidden_size});
        add(names.experts_up, {c.num_experts, c.moe_intermediate_size, c.hidden_size});
        add(names.experts_down, {c.num_experts, c.moe_intermediate_size, c.hidden_size}, true);
        if (c.shared_expert_intermediate_size > 0) {
            add_mlp(all, c, names.prefix + "mlp.shared_expert.", c.shared_expert_intermediate_size);
            add(names.prefix + "mlp.shared_expert_gate.weight", {1, c.hidden_size});
        }
    }
    return all;
}

void check_tensors(const ModelConfig& config, std::span<const io::TensorInfo> tensors,
                   const std::string& where) {
    std::map<std::string, const io::TensorInfo*> found;
    for (const io::TensorInfo& info : tensors)
        found[info.name] = &info;
    for (const io::TensorInfo& wanted : expected_tensors(config)) {
        const auto it = found.find(wanted.name);
        require_usage(
            it != found.end(),
            "{}: tensor '{}' is missing; the checkpoint is incomplete or not a {} model: download or convert "
            "it again",
            where, wanted.name, config.model_type);
        const io::TensorInfo& info = *it->second;
        require_usage(info.shape == wanted.shape && info.transposed == wanted.transposed,
                      "{}: tensor '{}' has the stored shape {}, and config.json asks for {}: download or "
                      "convert it again",
                      where, wanted.name, shape_text(info.shape), shape_text(wanted.shape));
        found.erase(it);
    }
    for (const auto& [name, info] : found) {
        // With tied embeddings some checkpoints keep a copy; a model cut by --num-layers leaves its last
        // layers unread.
        const bool tied_copy = config.tie_word_embeddings && name == "lm_head.weight";
        const std::string prefix = "model.layers.";
        const bool cut_layer =
            name.starts_with(prefix) && std::atoll(name.c_str() + prefix.size()) >= config.num_hidden_layers;
        require_usage(tied_copy || cut_layer, "{}: tensor '{}' is not one that a {} model has", where, name,
                      config.model_type);
    }
}

}  // namespace mixserve::model
