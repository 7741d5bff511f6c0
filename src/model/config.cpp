#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace mixserve::model {
namespace {

struct FamilyEntry {
    std::string_view model_type;
    ModelConfig (*read)(ConfigReader&);
};

constexpr std::array families{
    FamilyEntry{"qwen3_moe", read_qwen3_moe},
    FamilyEntry{"qwen2_moe", read_qwen2_moe},
    FamilyEntry{"mixtral", read_mixtral},
    FamilyEntry{"olmoe", read_olmoe},
};

json parse_object(std::string_view text, const std::string& where) {
    json object = json::parse(text, nullptr, false);
    require_usage(!object.is_discarded() && object.is_object(), "{}: not a JSON object", where);
    return object;
}

void add_eos(const json& object, std::vector<int32_t>& ids) {
    const auto it = object.find("eos_token_id");
    if (it == object.end()) return;
    const auto add = [&](const json& id) {
        if (id.is_number_integer() && std::find(ids.begin(), ids.end(), id.get<int32_t>()) == ids.end()) {
            ids.push_back(id.get<int32_t>());
        }
    };
    if (it->is_array()) {
        for (const json& id : *it)
            add(id);
    } else {
        add(*it);
    }
}

RopeType rope_type(ConfigReader& reader) {
    std::string type = reader.text("rope_type", "");
    if (type.empty()) type = reader.text("type", "default");
    reader.ignore({"type"});
    if (type == "default") return RopeType::plain;
    if (type == "linear") return RopeType::linear;
    if (type == "dynamic") return RopeType::dynamic;
    if (type == "yarn") return RopeType::yarn;
    if (type == "llama3") return RopeType::llama3;
    reader.refuse("rope_type", "is '" + type + "'; mixserve has default, linear, dynamic, yarn and llama3");
}

/// As transformers' modeling_rope_utils: a magnitude correction of YaRN for a scale, (Peng et al. 2023,
/// section 3.4).
double yarn_mscale(double scale, double mscale) {
    return scale <= 1.0 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

void read_rope_scaling(ConfigReader& reader, ModelConfig& config) {
    RopeConfig& rope = config.rope;
    rope.type = rope_type(reader);
    rope.theta = reader.number("rope_theta", rope.theta);
    rope.original_max_position_embeddings =
        reader.integer("original_max_position_embeddings", config.max_position_embeddings);
    if (reader.number("partial_rotary_factor", 1.0) != 1.0)
        reader.refuse("partial_rotary_factor", "must be 1");
    if (rope.type != RopeType::plain) {
        rope.factor = reader.number("factor");
        if (!(rope.factor >= 1.0)) reader.refuse("factor", "must be at least 1");
    } else {
        reader.ignore({"factor"});
    }
    if (rope.type == RopeType::yarn) {
        rope.beta_fast = reader.number("beta_fast", 32.0);
        rope.beta_slow = reader.number("beta_slow", 1.0);
        rope.truncate = reader.boolean("truncate", true);
        const double mscale = reader.number("mscale", 0.0);
        const double mscale_all_dim = reader.number("mscale_all_dim", 0.0);
        const double by_default =
            mscale > 0.0 && mscale_all_dim > 0.0
                ? yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, mscale_all_dim)
                : yarn_mscale(rope.factor, 1.0);
        rope.attention_factor = reader.number("attention_factor", by_default);
    }
    if (rope.type == RopeType::llama3) {
        rope.low_freq_factor = reader.number("low_freq_factor");
        rope.high_freq_factor = reader.number("high_freq_factor");
    }
    reader.refuse_the_rest();
}

void read_rope(ConfigReader& reader, ModelConfig& config) {
    config.rope.theta = reader.number("rope_theta", 10000.0);
    config.rope.original_max_position_embeddings = config.max_position_embeddings;
    if (reader.number("partial_rotary_factor", 1.0) != 1.0)
        reader.refuse("partial_rotary_factor", "must be 1");
    for (const std::string key : {"rope_scaling", "rope_parameters"}) {
        reader.ignore({key});
        if (!reader.has(key)) continue;
        ConfigReader scaling(reader.value(key), key);
        read_rope_scaling(scaling, config);
    }
}

int64_t moe_layer_parameters(const ModelConfig& c, int64_t n_experts) {
    return n_experts * 3 * c.hidden_size * c.moe_intermediate_size + c.num_experts * c.hidden_size +
           3 * c.hidden_size * c.shared_expert_intermediate_size +
           (c.shared_expert_intermediate_size > 0 ? c.hidden_size : 0);
}

int64_t parameters(const ModelConfig& c, int64_t n_experts) {
    int64_t total = c.vocab_size * c.hidden_size * (c.tie_word_embeddings ? 1 : 2) + c.hidden_size;
    const int64_t qk_norm = c.qk_norm == QkNorm::none       ? 0
                            : c.qk_norm == QkNorm::per_head ? 2 * c.head_dim
                                                            : c.q_size() + c.kv_size();
    const int64_t attention = 2 * c.hidden_size * (c.q_size() + c.kv_size()) + 2 * c.hidden_size + qk_norm +
                              (c.qkv_bias ? c.q_size() + 2 * c.kv_size() : 0) +
                              (c.o_bias ? c.hidden_size : 0);
    for (const bool is_sparse : c.sparse) {
        total += attention + (is_sparse ? moe_layer_parameters(c, n_experts)
                                        : 3 * c.hidden_size * c.dense_intermediate_size);
    }
    return total;
}

}  // namespace

int64_t ModelConfig::num_sparse_layers() const {
    return std::count(sparse.begin(), sparse.end(), true);
}
int64_t ModelConfig::total_parameters() const {
    return parameters(*this, num_experts);
}
int64_t ModelConfig::active_parameters() const {
    return parameters(*this, num_experts_per_tok);
}

void read_common(ConfigReader& reader, ModelConfig& config) {
    const auto positive = [&](std::string_view key, int64_t v) {
        if (v <= 0) reader.refuse(key, "must be positive");
        return v;
    };
    config.vocab_size = positive("vocab_size", reader.integer("vocab_size"));
    config.hidden_size = positive("hidden_size", reader.integer("hidden_size"));
    config.num_hidden_layers = positive("num_hidden_layers", reader.integer("num_hidden_layers"));
    config.num_attention_heads = positive("num_attention_heads", reader.integer("num_attention_heads"));
    config.num_key_value_heads =
        positive("num_key_value_heads", reader.integer("num_key_value_heads", config.num_attention_heads));
    config.head_dim =
        positive("head_dim", reader.integer("head_dim", config.hidden_size / config.num_attention_heads));
    config.max_position_embeddings =
        positive("max_position_embeddings", reader.integer("max_position_embeddings"));
    config.rms_norm_eps = reader.number("rms_norm_eps", 1e-6);
    config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
    config.num_experts = positive("num_experts", reader.integer_of({"num_experts", "num_local_experts"}));
    config.num_experts_per_tok = positive("num_experts_per_tok", reader.integer("num_experts_per_tok"));
    if (config.num_experts_per_tok > config.num_experts)
        reader.refuse("num_experts_per_tok", "is above num_experts");
    if (config.num_attention_heads % config.num_key_value_heads != 0) {
        reader.refuse("num_key_value_heads", "does not divide num_attention_heads");
    }
    if (config.head_dim % 2 != 0) reader.refuse("head_dim", "must be even for rotary embeddings");
    config.sliding_window.assign(static_cast<size_t>(config.num_hidden_layers), 0);
    config.sparse.assign(static_cast<size_t>(config.num_hidden_layers), true);

    const std::string dtype = reader.text("dtype", reader.text("torch_dtype", "bfloat16"));
    const auto parsed = parse_dtype(dtype);
    if (!parsed) reader.refuse("dtype", "is '" + dtype + "'; mixserve has float32, float16 and bfloat16");
    config.dtype = *parsed;
    read_rope(reader, config);
    reader.only("hidden_act", "silu");
    reader.only("pretraining_tp", 1);
    reader.ignore({"architectures",
                   "model_type",
                   "attention_dropout",
                   "bos_token_id",
                   "eos_token_id",
                   "pad_token_id",
                   "initializer_range",
                   "output_router_logits",
                   "router_aux_loss_coef",
                   "router_jitter_noise",
                   "transformers_version",
                   "use_cache",
                   "_name_or_path",
                   "auto_map",
                   "torch_dtype",
                   "unsloth_version",
                   "_attn_implementation",
                   "attn_implementation",
                   "name_or_path",
                   "id2label",
                   "label2id",
                   "problem_type",
                   "output_attentions",
                   "output_hidden_states",
                   "return_dict",
                   "is_decoder",
                   "is_encoder_decoder",
                   "chunk_size_feed_forward"});
}

void read_qwen_sparsity(ConfigReader& reader, ModelConfig& config) {
    config.moe_intermediate_size = reader.integer("moe_intermediate_size");
    config.dense_intermediate_size = reader.integer("intermediate_size");
    config.norm_topk_prob = reader.boolean("norm_topk_prob", false);
    const int64_t step = reader.integer("decoder_sparse_step", 1);
    if (step <= 0) reader.refuse("decoder_sparse_step", "must be positive");
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
        config.sparse[static_cast<size_t>(layer)] = (layer + 1) % step == 0;
    }
    reader.ignore({"mlp_only_layers"});
    if (!reader.has("mlp_only_layers")) return;
    for (const json& entry : reader.value("mlp_only_layers")) {
        if (!entry.is_number_integer()) reader.refuse("mlp_only_layers", "is not a list of layer numbers");
        const int64_t layer = entry.get<int64_t>();
        if (layer < 0) reader.refuse("mlp_only_layers", "has a negative layer number");
        if (layer < config.num_hidden_layers) config.sparse[static_cast<size_t>(layer)] = false;
    }
}

void read_layer_types(ConfigReader& reader, ModelConfig& config, int64_t window) {
    reader.ignore({"layer_types"});
    if (!reader.has("layer_types")) return;
    const json& types = reader.value("layer_types");
    if (!types.is_array() || static_cast<int64_t>(types.size()) != config.num_hidden_layers) {
        reader.refuse("layer_types", "does not have an entry for each of num_hidden_layers");
    }
    for (size_t layer = 0; layer < types.size(); ++layer) {
        if (types[layer] != "full_attention" && types[layer] != "sliding_attention") {
            reader.refuse("layer_types", "has " + types[layer].dump() +
                                             "; mixserve has full_attention and sliding_attention");
        }
        config.sliding_window[layer] = types[layer] == "sliding_attention" ? window : 0;
    }
}

ModelConfig parse_config(std::string_view config_json, std::string_view generation_config,
                         const std::string& where, std::optional<int64_t> num_layers) {
    const json object = parse_object(config_json, where);
    ConfigReader reader(object, where);
    const std::string model_type = reader.text("model_type", "");
    std::vector<std::string_view> names;
    for (const FamilyEntry& family : families)
        names.push_back(family.model_type);
    const auto family = std::find_if(families.begin(), families.end(),
                                     [&](const FamilyEntry& f) { return f.model_type == model_type; });
    require_usage(family != families.end(), "{}: unknown model family 'model_type': '{}'; mixserve has {}{}",
                  where, model_type, fmt::join(names, ", "), did_you_mean(model_type, names));
    ModelConfig config = family->read(reader);
    config.model_type = model_type;
    reader.refuse_the_rest();

    if (num_layers) {
        require_usage(*num_layers >= 1 && *num_layers <= config.num_hidden_layers,
                      "--num-layers {}: {} has {} layers", *num_layers, where, config.num_hidden_layers);
        config.num_hidden_layers = *num_layers;
        config.sparse.resize(static_cast<size_t>(*num_layers));
        config.sliding_window.resize(static_cast<size_t>(*num_layers));
    }
    add_eos(object, config.eos_token_ids);
    if (!generation_config.empty())
        add_eos(parse_object(generation_config, where + " (generation_config)"), config.eos_token_ids);
    for (const int32_t id : config.eos_token_ids) {
        require_usage(id >= 0 && id < config.vocab_size,
                      "{}: 'eos_token_id' {} is outside of the vocabulary of {}", where, id,
                      config.vocab_size);
    }
    return config;
}

}  // namespace mixserve::model
