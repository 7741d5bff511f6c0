#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "io/checkpoint_builder.h"
#include "io/convert.h"
#include "io/model_fixture.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;
using test::MadeModel;
using test::MadeTensor;
using testing::AllOf;
using testing::HasSubstr;

class BadCheckpointTest : public testing::Test {
  protected:
    test::TemporaryFolder folder_;
    std::string source_ = folder_.file("source");
    std::vector<MadeTensor> tensors_ = test::make_model({});

    void SetUp() override { test::write_checkpoint(source_, {}); }

    void write(const std::string& file, const std::string& bytes) const {
        test::write_file(source_ + "/" + file, bytes);
    }
    std::string plan_error() const {
        return test::error_of([&] { plan_conversion(source_, {}); });
    }
    /// The error after `change` was done to a copy of the tensors.
    template <class Change>
    std::string error_after(const Change& change) const {
        std::vector<MadeTensor> tensors = tensors_;
        change(tensors);
        write("model.safetensors", test::safetensors_bytes(tensors));
        return plan_error();
    }
    static MadeTensor& find(std::vector<MadeTensor>& tensors, const std::string& name) {
        return *std::find_if(tensors.begin(), tensors.end(),
                             [&](const MadeTensor& t) { return t.name == name; });
    }
};

const std::string expert_3 = "model.layers.1.mlp.experts.3.up_proj.weight";

TEST_F(BadCheckpointTest, TheMadeOneIsGood) {
    EXPECT_EQ(plan_error(), "");
}

TEST_F(BadCheckpointTest, Folders) {
    fs::remove(source_ + "/model.safetensors");
    EXPECT_THAT(plan_error(), AllOf(HasSubstr(source_), HasSubstr("no *.safetensors")));
    write("config.json", "");
    EXPECT_THAT(plan_error(), AllOf(HasSubstr(source_), HasSubstr("no config.json")));
    fs::remove(source_ + "/config.json");
    EXPECT_THAT(plan_error(), AllOf(HasSubstr(source_), HasSubstr("no config.json")));
    fs::remove_all(source_);
    EXPECT_THAT(plan_error(), AllOf(HasSubstr(source_), HasSubstr("not a folder")));
}

TEST_F(BadCheckpointTest, ConfigThatIsNotJson) {
    for (const char* text : {"{", "3", "[]"}) {
        write("config.json", text);
        EXPECT_THAT(plan_error(), AllOf(HasSubstr(source_ + "/config.json"), HasSubstr("not a JSON object")));
    }
}

TEST_F(BadCheckpointTest, ATruncatedFile) {
    const std::string whole = test::read_file(source_ + "/model.safetensors");
    for (const size_t n : {whole.size() - 1, whole.size() / 2, size_t{100}, size_t{3}, size_t{0}}) {
        write("model.safetensors", whole.substr(0, n));
        EXPECT_THAT(plan_error(), HasSubstr("model.safetensors")) << n;
    }
}

TEST_F(BadCheckpointTest, AFileThatShrinksAfterPlanning) {
    const ConversionPlan plan = plan_conversion(source_, {});
    fs::resize_file(source_ + "/model.safetensors", fs::file_size(source_ + "/model.safetensors") - 1);
    EXPECT_THAT(test::error_of([&] { convert(plan, folder_.file("m.h5"), {}); }, exit_failure),
                AllOf(HasSubstr("model.safetensors"), HasSubstr("cut off")));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(BadCheckpointTest, ExpertsThatAreMissing) {
    EXPECT_THAT(
        error_after([](auto& all) { std::erase_if(all, [](auto& t) { return t.name == expert_3; }); }),
        AllOf(HasSubstr("'" + expert_3 + "' is missing"), HasSubstr("5 experts")));
    const std::string last = "model.layers.1.mlp.experts.4.down_proj.weight";
    EXPECT_THAT(error_after([&](auto& all) { std::erase_if(all, [&](auto& t) { return t.name == last; }); }),
                HasSubstr("'" + last + "' is missing"));
    write("config.json", R"({"model_type": "qwen3_moe"})");
    EXPECT_THAT(
        error_after([](auto& all) { std::erase_if(all, [](auto& t) { return t.name == expert_3; }); }),
        HasSubstr("'" + expert_3 + "' is missing"));
}

TEST_F(BadCheckpointTest, ExpertsThatAreTooManyOrUnequal) {
    EXPECT_THAT(error_after([](auto& all) {
                    all.push_back(test::make_tensor("model.layers.1.mlp.experts.5.up_proj.weight",
                                                    DType::bf16, {10, 24}));
                }),
                AllOf(HasSubstr("experts.5.up_proj.weight'"), HasSubstr("5 experts")));
    EXPECT_THAT(
        error_after([](auto& all) {
            find(all, expert_3) = test::make_tensor(expert_3, DType::bf16, {24, 10});
        }),
        AllOf(HasSubstr(expert_3), HasSubstr("BF16 [24, 10] and differs from"), HasSubstr("[10, 24]")));
    EXPECT_THAT(error_after([](auto& all) {
                    find(all, expert_3) = test::make_tensor(expert_3, DType::f32, {10, 24});
                }),
                AllOf(HasSubstr(expert_3), HasSubstr("F32")));
}

TEST_F(BadCheckpointTest, TensorsOfOtherTypesAndShapes) {
    for (const char* type : {"F8_E4M3", "I8", "U8"}) {
        EXPECT_THAT(error_after([&](auto& all) {
                        all.push_back({"model.norm.scale", type, {2}, "xy"});
                    }),
                    AllOf(HasSubstr("'model.norm.scale'"), HasSubstr(type), HasSubstr("BF16, F16 and F32")));
    }
    EXPECT_THAT(error_after([&](auto& all) {
                    all.push_back({"d", "F64", {1}, "12345678"});
                }),
                HasSubstr("F64"));
    EXPECT_THAT(
        error_after([](auto& all) { all.push_back(test::make_tensor("x.o_proj.weight", DType::bf16, {6})); }),
        AllOf(HasSubstr("'x.o_proj.weight'"), HasSubstr("should be a matrix")));
    EXPECT_THAT(error_after([](auto& all) {
                    all.push_back(test::make_tensor("x.weight", DType::bf16, {6, 0}));
                }),
                AllOf(HasSubstr("'x.weight'"), HasSubstr("is empty")));
    const std::string fused = "model.layers.0.mlp.experts.gate_up_proj";
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{5, 3, 24}, {5, 24}}) {
        EXPECT_THAT(
            error_after([&](auto& all) { all.push_back(test::make_tensor(fused, DType::bf16, shape)); }),
            AllOf(HasSubstr(fused), HasSubstr("should be [experts, 2 x rows, columns]")));
    }
}

TEST_F(BadCheckpointTest, ExpertsThatAreThereInTwoForms) {
    MadeModel fused;
    fused.fused = true;
    EXPECT_THAT(error_after([&](auto& all) {
                    const std::vector<MadeTensor> more = test::make_model(fused);
                    all.insert(all.end(), more.end() - 2, more.end());
                }),
                HasSubstr("is there twice"));
}

TEST_F(BadCheckpointTest, IndexesAndFilesThatDisagree) {
    fs::rename(source_ + "/model.safetensors", source_ + "/part.safetensors");
    const auto index = [&](const json& map) {
        write("model.safetensors.index.json", json{{"weight_map", map}}.dump());
    };
    index({{"lm_head.weight", "gone.safetensors"}});
    EXPECT_THAT(plan_error(), AllOf(HasSubstr("gone.safetensors is missing"), HasSubstr("download")));
    index({{"nothing.weight", "part.safetensors"}});
    EXPECT_THAT(plan_error(), AllOf(HasSubstr("'nothing.weight' is not in part.safetensors")));
    index({{"lm_head.weight", "../part.safetensors"}});
    EXPECT_THAT(plan_error(), HasSubstr("no file of this folder"));
    for (const char* text : {"{", "{}", R"({"weight_map": {"a": 1}})", R"({"weight_map": {}})"}) {
        write("model.safetensors.index.json", text);
        EXPECT_THAT(plan_error(), HasSubstr("model.safetensors.index.json")) << text;
    }
    fs::remove(source_ + "/model.safetensors.index.json");
    EXPECT_EQ(plan_error(), "");
    fs::copy_file(source_ + "/part.safetensors", source_ + "/part2.safetensors");
    EXPECT_THAT(plan_error(), AllOf(HasSubstr("part.safetensors"), HasSubstr("part2.safetensors")));
}

}  // namespace
}  // namespace mixserve::io
