#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/json.h"

namespace mixserve::model {

enum class Family : uint8_t { qwen3_moe, qwen2_moe, mixtral, olmoe };

/// Root-mean-square norms of queries and keys: none, of each head (Qwen3), or of all heads together (OLMoE).
enum class QkNorm : uint8_t { none, per_head, all_heads };

enum class RopeType : uint8_t { plain, linear, dynamic, yarn, llama3 };

/// Rotary position embedding and its scaling, as transformers names the parameters.
struct RopeConfig {
    RopeType type = RopeType::plain;
    double theta = 10000.0;
    double factor = 1.0;
    int64_t original_max_position_embeddings = 0;
    double attention_factor = 1.0;  // yarn: cos and sin are multiplied by it
    double beta_fast = 32.0;        // yarn
    double beta_slow = 1.0;         // yarn
    bool truncate = true;           // yarn: correction range rounded to whole dimensions
    double low_freq_factor = 1.0;   // llama3
    double high_freq_factor = 4.0;  // llama3
    /// Checkpoints are run with f32 frequencies. A reference that casts the whole module with
    /// model.to(bfloat16), its rotary buffers included, has rounded ones, and differs visibly after some tens
    /// of positions.
    DType frequency_dtype = DType::f32;
};

/// A decoder with routed experts, whatever its family.
struct ModelConfig {
    Family family = Family::qwen3_moe;
    std::string model_type;
    int64_t vocab_size = 0;
    int64_t hidden_size = 0;
    int64_t num_hidden_layers = 0;
    int64_t num_attention_heads = 0;
    int64_t num_key_value_heads = 0;
    int64_t head_dim = 0;
    int64_t max_position_embeddings = 0;
    double rms_norm_eps = 1e-6;
    bool tie_word_embeddings = false;

    QkNorm qk_norm = QkNorm::none;
    bool qkv_bias = false;
    bool o_bias = false;
    std::optional<double> clip_qkv;
    RopeConfig rope;
    std::vector<int64_t> sliding_window;  // a layer; 0: sees everything

    int64_t num_experts = 0;
    int64_t num_experts_per_tok = 0;
    int64_t moe_intermediate_size = 0;
    bool norm_topk_prob = false;
    std::vector<bool> sparse;                     // a layer: routed experts, or a dense MLP
    int64_t dense_intermediate_size = 0;          // of the dense layers
    int64_t shared_expert_intermediate_size = 0;  // 0: no shared expert

    DType dtype = DType::bf16;
    std::vector<int32_t> eos_token_ids;

    int64_t q_size() const { return num_attention_heads * head_dim; }
    int64_t kv_size() const { return num_key_value_heads * head_dim; }
    int64_t num_sparse_layers() const;
    int64_t total_parameters() const;
    /// Parameters that one token passes through.
    int64_t active_parameters() const;
};

/// Reads a config.json in the forms of transformers 4 and 5. UsageError names each key that is missing,
/// malformed, or asks for something that this program does not do. `where` names the file in errors.
/// `generation_config` (may be "") adds its eos_token_id; `num_layers` cuts the model to its first layers.
ModelConfig parse_config(std::string_view config_json, std::string_view generation_config,
                         const std::string& where, std::optional<int64_t> num_layers = std::nullopt);

/// Reads keys of one JSON object, knows which were asked for, and refuses the rest.
class ConfigReader {
  public:
    ConfigReader(const json& object, std::string where);
    bool has(std::string_view key) const;  // present and not null
    int64_t integer(std::string_view key);
    int64_t integer(std::string_view key, int64_t by_default);
    double number(std::string_view key);
    double number(std::string_view key, double by_default);
    bool boolean(std::string_view key, bool by_default);
    std::string text(std::string_view key, const std::string& by_default);
    const json& value(std::string_view key);
    /// The first of several spellings that is present.
    int64_t integer_of(std::initializer_list<std::string_view> keys);
    /// Keys that say nothing about inference.
    void ignore(std::initializer_list<std::string_view> keys);
    /// A key whose value must be `wanted` where it is present.
    void only(std::string_view key, const json& wanted);
    /// UsageError on the first key that was neither read nor ignored; null, false and empty values are
    /// harmless.
    void refuse_the_rest() const;
    [[noreturn]] void refuse(std::string_view key, const std::string& why) const;

  private:
    const json& object_;
    std::string where_;
    std::vector<std::string> seen_;
};

// What the families share; each family's own mapping is in families/<name>.cpp.
void read_common(ConfigReader& reader, ModelConfig& config);
void read_qwen_sparsity(ConfigReader& reader, ModelConfig& config);
/// "layer_types" of transformers 5, where present: which layers slide over `window` positions.
void read_layer_types(ConfigReader& reader, ModelConfig& config, int64_t window);
ModelConfig read_qwen3_moe(ConfigReader& reader);
ModelConfig read_qwen2_moe(ConfigReader& reader);
ModelConfig read_mixtral(ConfigReader& reader);
ModelConfig read_olmoe(ConfigReader& reader);

}  // namespace mixserve::model
