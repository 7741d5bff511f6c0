#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/config.h"
#include "model/weight_source.h"
#include "support/test_support.h"

namespace mixserve::model {
namespace {

json qwen3() {
    return json::parse(
        R"({"model_type": "qwen3_moe", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
        "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "intermediate_size": 96,
        "norm_topk_prob": true, "rope_theta": 1000000.0, "torch_dtype": "bfloat16", "hidden_act": "silu"})");
}

ModelConfig parse(const json& config) {
    return parse_config(config.dump(), "", "config.json");
}

/// The text of the UsageError that parsing ends with, or "" when it does not.
std::string refusal(const json& config) {
    try {
        parse(config);
    } catch (const UsageError& e) {
        return e.what();
    }
    return "";
}

TEST(Config, FormsOfTransformers4And5AreTheSameModel) {
    const ModelConfig v4 = parse(qwen3());
    json changed = qwen3();
    changed.erase("rope_theta");
    changed.erase("torch_dtype");
    changed.erase("num_experts");
    changed["rope_parameters"] = {{"rope_theta", 1000000.0}, {"rope_type", "default"}};
    changed["dtype"] = "bfloat16";
    changed["num_local_experts"] = 8;
    const ModelConfig v5 = parse(changed);
    EXPECT_EQ(v4.rope.theta, 1000000.0);
    EXPECT_EQ(v5.rope.theta, v4.rope.theta);
    EXPECT_EQ(v5.num_experts, v4.num_experts);
    EXPECT_EQ(v5.dtype, v4.dtype);
    EXPECT_EQ(v5.total_parameters(), v4.total_parameters());
}

TEST(Config, SparseLayersFollowStepAndExceptions) {
    json config = qwen3();
    config["decoder_sparse_step"] = 2;
    config["mlp_only_layers"] = {3};
    EXPECT_EQ(parse(config).sparse, (std::vector<bool>{false, true, false, false}));
}

TEST(Config, SlidingWindows) {
    json config = qwen3();
    config["sliding_window"] = 32;
    EXPECT_EQ(parse(config).sliding_window, std::vector<int64_t>(4, 0)) << "not in use";
    config["use_sliding_window"] = true;
    EXPECT_EQ(parse(config).sliding_window, std::vector<int64_t>(4, 32));

    config["model_type"] = "qwen2_moe";
    config["shared_expert_intermediate_size"] = 64;
    config["max_window_layers"] = 3;
    EXPECT_EQ(parse(config).sliding_window, (std::vector<int64_t>{0, 0, 0, 32}));
    config["layer_types"] = {"full_attention", "sliding_attention", "full_attention", "full_attention"};
    EXPECT_EQ(parse(config).sliding_window, (std::vector<int64_t>{0, 32, 0, 0}));
}

TEST(Config, ErrorsNameTheKey) {
    const auto changed = [](const std::string& key, const json& value) {
        json config = qwen3();
        config[key] = value;
        return refusal(config);
    };
    const auto without = [](const std::string& key) {
        json config = qwen3();
        config.erase(key);
        return refusal(config);
    };
    EXPECT_THAT(without("hidden_size"), testing::HasSubstr("'hidden_size' is missing"));
    EXPECT_THAT(changed("model_type", "qwen3_mo"), testing::HasSubstr("did you mean 'qwen3_moe'"));
    EXPECT_THAT(changed("hidden_act", "gelu"), testing::HasSubstr("'hidden_act'"));
    EXPECT_THAT(changed("quantization_config", {{"bits", 4}}), testing::HasSubstr("'quantization_config'"));
    EXPECT_THAT(changed("a_new_switch", true), testing::HasSubstr("'a_new_switch'"));
    EXPECT_THAT(changed("hidden_size", "64"), testing::HasSubstr("'hidden_size'"));
    EXPECT_THAT(changed("hidden_size", -1), testing::HasSubstr("'hidden_size'"));
    EXPECT_THAT(changed("num_experts_per_tok", 9), testing::HasSubstr("'num_experts_per_tok'"));
    EXPECT_THAT(changed("torch_dtype", "int8"), testing::HasSubstr("int8"));
    EXPECT_THAT(changed("rope_scaling", {{"rope_type", "longrope"}, {"factor", 2.0}}),
                testing::HasSubstr("longrope"));
    EXPECT_THAT(changed("rope_scaling", {{"type", "yarn"}}), testing::HasSubstr("'factor'"));
    EXPECT_THAT(changed("partial_rotary_factor", 0.5), testing::HasSubstr("'partial_rotary_factor'"));
    EXPECT_THAT(changed("eos_token_id", 100), testing::HasSubstr("eos_token_id"));
    EXPECT_EQ(changed("a_switch_that_is_off", false), "");
    EXPECT_EQ(changed("something_null", nullptr), "");
    EXPECT_THROW(parse_config("[1]", "", "config.json"), UsageError);
    EXPECT_THROW(parse_config("{", "", "config.json"), UsageError);
}

TEST(Config, EosComesFromBothFiles) {
    json config = qwen3();
    config["eos_token_id"] = 5;
    const ModelConfig parsed = parse_config(config.dump(), R"({"eos_token_id": [5, 7]})", "config.json");
    EXPECT_EQ(parsed.eos_token_ids, (std::vector<int32_t>{5, 7}));
}

TEST(Config, NumLayersCutsTheModel) {
    EXPECT_EQ(parse_config(qwen3().dump(), "", "config.json", 2).num_hidden_layers, 2);
    EXPECT_THROW(parse_config(qwen3().dump(), "", "config.json", 5), UsageError);
}

TEST(Config, TensorsThatAreMissingOrMisshapenAreNamed) {
    const ModelConfig config = parse(qwen3());
    std::vector<io::TensorInfo> tensors = expected_tensors(config);
    EXPECT_NO_THROW(check_tensors(config, tensors, "m.h5"));
    const auto refused = [&](const std::vector<io::TensorInfo>& changed) -> std::string {
        try {
            check_tensors(config, changed, "m.h5");
        } catch (const UsageError& e) {
            return e.what();
        }
        return "";
    };
    std::vector<io::TensorInfo> changed(tensors.begin() + 1, tensors.end());
    EXPECT_THAT(refused(changed), testing::HasSubstr(tensors[0].name));
    changed = tensors;
    changed[3].shape[0] += 1;
    EXPECT_THAT(refused(changed), testing::HasSubstr(tensors[3].name));
    changed = tensors;
    changed.push_back({"model.layers.0.mystery", DType::bf16, {1}, false, 0});
    EXPECT_THAT(refused(changed), testing::HasSubstr("mystery"));
}

/// Parameter counts that the models' publishers state.
TEST(Config, PublishedModelsHaveTheirSizes) {
    struct Published {
        const char* folder;
        double total, active;  // billions
    };
    for (const Published& p :
         {Published{"Qwen3-30B-A3B", 30.5, 3.3}, Published{"Qwen3-235B-A22B", 235.1, 22.1},
          Published{"Mixtral-8x7B-v0.1", 46.7, 12.9}, Published{"OLMoE-1B-7B-0924", 6.92, 1.28},
          Published{"Qwen1.5-MoE-A2.7B", 14.3, 2.7}}) {
        const auto path = test::source_dir() / "inputs/configs" / p.folder / "config.json";
        const ModelConfig config = parse_config(test::read_file(path), "", path.string());
        EXPECT_NEAR(static_cast<double>(config.total_parameters()) / 1e9, p.total, 0.01 * p.total)
            << p.folder;
        EXPECT_NEAR(static_cast<double>(config.active_parameters()) / 1e9, p.active, 0.06 * p.active)
            << p.folder;
    }
}

TEST(DummyWeights, APartIsThatPartOfTheWhole) {
    const ModelConfig config = parse(qwen3());
    const auto source = dummy_weights(config, 3);
    const std::string name = "model.layers.1.mlp.experts.gate_proj.weight";
    const int64_t zero[] = {0, 0, 0};
    const int64_t all[] = {8, 32, 64};
    std::vector<uint16_t> whole(8 * 32 * 64);
    source->read(name, zero, all, whole.data());
    const int64_t offset[] = {2, 5, 7};
    const int64_t count[] = {3, 4, 9};
    std::vector<uint16_t> part(3 * 4 * 9);
    source->read(name, offset, count, part.data());
    size_t i = 0;
    for (int64_t e = 2; e < 5; ++e) {
        for (int64_t r = 5; r < 9; ++r) {
            for (int64_t c = 7; c < 16; ++c)
                EXPECT_EQ(part[i++], whole[static_cast<size_t>((e * 32 + r) * 64 + c)]);
        }
    }
    std::vector<uint16_t> other(whole.size());
    dummy_weights(config, 4)->read(name, zero, all, other.data());
    EXPECT_NE(whole, other) << "another seed is another model";
}

}  // namespace
}  // namespace mixserve::model
