#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

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
using test::read_tensor;

ModelFile convert_folder(const std::string& folder, const std::string& output,
                         std::optional<DType> dtype = {}, const WriteOptions& options = {}) {
    convert(plan_conversion(folder, dtype), output, options);
    return ModelFile::open(output);
}

float element(const std::string& bytes, DType dtype, int64_t i) {
    if (dtype == DType::f32) {
        float value;
        std::memcpy(&value, bytes.data() + 4 * i, 4);
        return value;
    }
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    return dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

bool stored_transposed(const std::string& name) {
    static const std::regex pattern(R"(.*(o_proj|down_proj|w2)\.weight)");
    return std::regex_match(name, pattern);
}

/// Compares every element of a checkpoint's tensors with the model; names and places are found anew, by other
/// means than the converter's.
void expect_same(const ModelFile& model, const std::vector<MadeTensor>& tensors,
                 std::optional<DType> stored = {}) {
    static const std::regex expert_pattern(R"((.*\.experts)\.(\d+)\.(.*))");
    std::set<std::string> seen;
    for (const MadeTensor& source : tensors) {
        std::smatch match;
        const bool is_expert = std::regex_match(source.name, match, expert_pattern);
        const std::string name = is_expert ? match[1].str() + "." + match[3].str() : source.name;
        seen.insert(name);
        ASSERT_TRUE(model.has(name)) << name;
        const TensorInfo& info = model.tensor(name);
        const DType from = *parse_dtype(source.dtype);
        ASSERT_EQ(info.dtype, stored.value_or(from)) << name;
        ASSERT_EQ(info.transposed, stored_transposed(name)) << name;

        std::vector<int64_t> shape = source.shape;
        if (info.transposed) std::swap(shape[0], shape[1]);
        std::vector<int64_t> offset(shape.size(), 0);
        if (is_expert) {
            shape.insert(shape.begin(), 1);
            offset.insert(offset.begin(), std::stoll(match[2]));
        }
        ASSERT_EQ(std::vector<int64_t>(info.shape.begin() + is_expert, info.shape.end()),
                  std::vector<int64_t>(shape.begin() + is_expert, shape.end()))
            << name;
        int64_t n = 1;
        for (const int64_t size : shape)
            n *= size;
        std::string bytes(static_cast<size_t>(n * size_of(info.dtype)), '\0');
        model.read(name, offset, shape, bytes.data());
        const int64_t n_rows = source.shape.size() == 2 ? source.shape[0] : 1;
        const int64_t n_columns = n / n_rows;
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = info.transposed ? i % n_columns * n_rows + i / n_columns : i;
            ASSERT_EQ(element(bytes, info.dtype, at), element(source.bytes, from, i))
                << source.name << " " << i;
        }
    }
    EXPECT_EQ(model.tensors().size(), seen.size());
    model.verify();
}

std::vector<MadeTensor> read_safetensors(const std::string& path) {
    const std::string bytes = test::read_file(path);
    std::vector<MadeTensor> tensors;
    for (const SafeTensor& t : read_safetensors_header(path)) {
        tensors.push_back({t.name, t.stored_dtype, t.shape,
                           bytes.substr(static_cast<size_t>(t.offset), static_cast<size_t>(t.n_bytes))});
    }
    return tensors;
}

TEST(Convert, TheGoldenCheckpoints) {
    MIXSERVE_NEEDS_SHARED(goldens, "goldens");
    const test::TemporaryFolder folder;
    for (const char* family : {"qwen3-moe", "qwen2-moe", "mixtral", "olmoe"}) {
        SCOPED_TRACE(family);
        const std::string source = (goldens / family).string();
        const ModelFile model = convert_folder(source, folder.file(std::string(family) + ".h5"));
        expect_same(model, read_safetensors(source + "/model.safetensors"));
        EXPECT_EQ(model.config(), test::read_file(source + "/config.json"));
        EXPECT_EQ(model.generation_config(), test::read_file(source + "/generation_config.json"));
        EXPECT_FALSE(model.tokenizer());
    }
}

TEST(Convert, TheSampleModelWithItsTextsInShards) {
    MIXSERVE_NEEDS_SHARED(models, "models");
    const test::TemporaryFolder folder;
    const std::string source = (models / "shakespeare-moe").string();
    const ModelFile model = convert_folder(source, folder.file("s.h5"), {}, {false, 10'000'000});
    EXPECT_EQ(model.files().size(), 6u);
    expect_same(model, read_safetensors(source + "/model.safetensors"));
    EXPECT_EQ(model.tokenizer(), test::read_file(source + "/tokenizer.json"));
    EXPECT_EQ(model.tokenizer_config(), test::read_file(source + "/tokenizer_config.json"));
}

TEST(Convert, EveryTypeToEveryType) {
    const test::TemporaryFolder folder;
    for (const DType from : {DType::bf16, DType::f16, DType::f32}) {
        MadeModel made;
        made.dtype = from;
        const std::string source = folder.file(std::string(name(from)));
        test::write_checkpoint(source, made);
        for (const std::optional<DType> to :
             {std::optional<DType>(), {DType::bf16}, {DType::f32}, {DType::f16}}) {
            const std::string output = source + (to ? std::string(name(*to)) : "auto") + ".h5";
            expect_same(convert_folder(source, output, to), test::make_model(made), to);
        }
    }
}

TEST(Convert, OddSizesAndBlocksLargerThanTheBuffer) {
    const test::TemporaryFolder folder;
    for (const auto& [hidden, intermediate, experts] :
         {std::array<int64_t, 3>{1, 1, 1}, {33, 31, 3}, {65, 1, 12}, {1100, 2111, 1}}) {
        MadeModel made;
        made.hidden_size = hidden;
        made.intermediate_size = intermediate;
        made.num_experts = experts;
        test::write_checkpoint(folder.file("source"), made);
        expect_same(convert_folder(folder.file("source"), folder.file("m.h5"), {}, {true, 0}),
                    test::make_model(made));
    }
}

TEST(Convert, FusedExpertsGiveTheSameModel) {
    const test::TemporaryFolder folder;
    for (const bool mixtral : {false, true}) {
        for (const bool fused : {false, true}) {
            MadeModel made;
            made.mixtral = mixtral;
            made.fused = fused;
            test::write_checkpoint(folder.file("source"), made);
            const ModelFile model = convert_folder(
                folder.file("source"), folder.file(fused ? "fused.h5" : "single.h5"), {}, {true, 0});
            if (!fused) expect_same(model, test::make_model(made));
        }
        EXPECT_EQ(test::read_file(folder.file("fused.h5")), test::read_file(folder.file("single.h5")));
    }
}

/// The checkpoint cut into files of four tensors each.
void write_in_files(const std::string& folder, const MadeModel& made, bool with_index) {
    test::write_checkpoint(folder, made);
    fs::remove(folder + "/model.safetensors");
    const std::vector<MadeTensor> tensors = test::make_model(made);
    json index;
    for (size_t i = 0; i < tensors.size(); i += 4) {
        const std::string file = "model-" + std::to_string(i) + ".safetensors";
        const auto end = tensors.begin() + static_cast<int64_t>(std::min(tensors.size(), i + 4));
        const std::vector<MadeTensor> part(tensors.begin() + static_cast<int64_t>(i), end);
        test::write_file(std::filesystem::path(folder) / file, test::safetensors_bytes(part));
        for (const MadeTensor& tensor : part)
            index["weight_map"][tensor.name] = file;
    }
    if (with_index) test::write_file(folder + "/model.safetensors.index.json", index.dump());
}

TEST(Convert, CheckpointsInSeveralFilesGiveTheSameModel) {
    const test::TemporaryFolder folder;
    const MadeModel made;
    test::write_checkpoint(folder.file("one"), made);
    convert_folder(folder.file("one"), folder.file("one.h5"));
    for (const bool with_index : {false, true}) {
        const std::string source = folder.file(with_index ? "indexed" : "plain");
        write_in_files(source, made, with_index);
        convert_folder(source, source + ".h5");
        EXPECT_EQ(test::read_file(source + ".h5"), test::read_file(folder.file("one.h5")));
    }
    // Files that the index does not name stay out.
    test::write_file(folder.file("indexed/consolidated.safetensors"),
                     test::safetensors_bytes({test::make_tensor("lm_head.weight", DType::f32, {5})}));
    convert_folder(folder.file("indexed"), folder.file("again.h5"));
    EXPECT_EQ(test::read_file(folder.file("again.h5")), test::read_file(folder.file("one.h5")));
}

TEST(Convert, LayersComeInTheOrderOfTheirNumbers) {
    const test::TemporaryFolder folder;
    fs::create_directory(folder.file("c"));
    test::write_file(folder.file("c/config.json"), "{}");
    std::vector<MadeTensor> tensors;
    for (const char* layer : {"10", "2", "9"})
        tensors.push_back(test::make_tensor(std::string("model.layers.") + layer + ".x", DType::f32, {2}));
    tensors.push_back(test::make_tensor("model.layers.2.rotary_emb.inv_freq", DType::f32, {2}));
    test::write_file(folder.file("c/model.safetensors"), test::safetensors_bytes(tensors));
    const ModelFile model = convert_folder(folder.file("c"), folder.file("m.h5"));
    std::vector<std::string> names;
    for (const TensorInfo& info : model.tensors())
        names.push_back(info.name);
    EXPECT_EQ(names, (std::vector<std::string>{"model.layers.2.x", "model.layers.9.x", "model.layers.10.x"}));
}

TEST(Convert, StoppingLeavesNothingAndProgressReachesTheEnd) {
    const test::TemporaryFolder folder;
    test::write_checkpoint(folder.file("source"), {});
    const ConversionPlan plan = plan_conversion(folder.file("source"), {});
    int n_blocks = 0;
    const auto stop = [&](int64_t, int64_t) {
        if (++n_blocks == 5) fail("stopped");
    };
    EXPECT_EQ(test::error_of(
                  [&] {
                      convert(plan, folder.file("m.h5"), {false, 1000}, stop);
                  },
                  exit_failure),
              "stopped");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "only the checkpoint";
    int64_t last = 0;
    convert(plan, folder.file("m.h5"), {}, [&](int64_t done, int64_t total) {
        EXPECT_GT(done, last);
        EXPECT_EQ(total, plan.n_bytes());
        last = done;
    });
    EXPECT_EQ(last, plan.n_bytes());
}

int64_t status_bytes(const std::string& key) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word == key + ":") {
            int64_t kilobytes = 0;
            status >> kilobytes;
            return kilobytes * 1024;
        }
    }
    return -1;
}

TEST(Convert, HoldsLessThanTwoTensors) {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "the sanitizer keeps freed memory";
#endif
    const test::TemporaryFolder folder;
    const int64_t n_rows = 1600;
    const int64_t n_columns = 8000;
    const int64_t tensor_bytes = n_rows * n_columns * 2;
    fs::create_directory(folder.file("c"));
    test::write_file(folder.file("c/config.json"), "{}");
    {
        std::vector<MadeTensor> tensors;
        const std::string bytes(static_cast<size_t>(tensor_bytes), 'x');
        for (const char* name : {"a.o_proj.weight", "b.weight"})
            tensors.push_back({name, "BF16", {n_rows, n_columns}, bytes});
        test::write_file(folder.file("c/model.safetensors"), test::safetensors_bytes(tensors));
    }
    const ConversionPlan plan = plan_conversion(folder.file("c"), {});
    std::ofstream clear("/proc/self/clear_refs");  // "5" sets the peak back to what is resident now
    clear << "5" << std::flush;
    if (!clear) GTEST_SKIP() << "the peak of resident memory cannot be reset here";
    const int64_t before = status_bytes("VmHWM");
    convert(plan, folder.file("m.h5"), {});
    const int64_t grown = status_bytes("VmHWM") - before;
    RecordProperty("grown_bytes", std::to_string(grown));
    EXPECT_GT(grown, tensor_bytes / 2) << "the measure works";
    EXPECT_LT(grown, 2 * tensor_bytes);
}

}  // namespace
}  // namespace mixserve::io
