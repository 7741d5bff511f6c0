#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "io/hdf5_format.h"
#include "io/model_file.h"
#include "io/model_fixture.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::MadeTensor;
using test::make_tensor;
using test::read_tensor;
using test::write_model;
using testing::HasSubstr;

std::vector<MadeTensor> odd_tensors() {
    return {make_tensor("a.vector", DType::bf16, {1}),       make_tensor("b.matrix", DType::f16, {7, 13}),
            make_tensor("c.stack", DType::bf16, {3, 5, 11}), make_tensor("d.scalar", DType::f32, {}),
            make_tensor("e.large", DType::f32, {257, 33}),   make_tensor("f.deep", DType::bf16, {2, 3, 4, 5}),
            make_tensor("g.nothing", DType::bf16, {0, 4}),   make_tensor("h.last", DType::f16, {1, 1, 9})};
}

ModelTexts some_texts() {
    ModelTexts texts;
    texts.config = "{\"model_type\": \"x\"}\n";
    texts.tokenizer = std::string("\0 bytes \xff\xfe and \n\0\0", 18);
    texts.chat_template = "{{ m }}";
    return texts;
}

class ModelFileTest : public testing::Test {
  protected:
    test::TemporaryFolder folder_;
    std::string path_ = folder_.file("m.h5");

    std::vector<std::string> names_in_folder() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(folder_.path()))
            names.push_back(entry.path().filename().string());
        std::sort(names.begin(), names.end());
        return names;
    }
    std::string open_error() const {
        return error_of([&] { ModelFile::open(path_).verify(); });
    }
};

void expect_holds(const ModelFile& file, const std::vector<MadeTensor>& tensors) {
    ASSERT_EQ(file.tensors().size(), tensors.size());
    for (const MadeTensor& tensor : tensors) {
        ASSERT_TRUE(file.has(tensor.name)) << tensor.name;
        EXPECT_EQ(file.tensor(tensor.name).shape, tensor.shape);
        EXPECT_EQ(file.tensor(tensor.name).dtype, parse_dtype(tensor.dtype));
        EXPECT_EQ(read_tensor(file, tensor.name), tensor.bytes) << tensor.name;
    }
}

TEST_F(ModelFileTest, GivesBackWhatWasWritten) {
    write_model(path_, odd_tensors(), some_texts());
    const ModelFile file = ModelFile::open(path_);
    expect_holds(file, odd_tensors());
    file.verify();
    EXPECT_EQ(file.config(), *some_texts().config);
    EXPECT_EQ(file.tokenizer(), some_texts().tokenizer);
    EXPECT_EQ(file.chat_template(), some_texts().chat_template);
    EXPECT_FALSE(file.generation_config());
    EXPECT_FALSE(file.tokenizer_config());
    EXPECT_FALSE(file.has("a"));
    EXPECT_THAT(error_of([&] { file.tensor("a.vectr"); }), HasSubstr("no tensor 'a.vectr'"));
    EXPECT_EQ(names_in_folder(), std::vector<std::string>{"m.h5"});
}

TEST_F(ModelFileTest, WritesTheSameBytesEveryTime) {
    write_model(path_, odd_tensors(), some_texts());
    write_model(folder_.file("again.h5"), odd_tensors(), some_texts());
    EXPECT_EQ(test::read_file(path_), test::read_file(folder_.file("again.h5")));
}

TEST_F(ModelFileTest, AppendsOfAnySizeGiveTheSameFile) {
    write_model(path_, odd_tensors(), some_texts());
    std::vector<TensorInfo> infos;
    for (const MadeTensor& tensor : odd_tensors())
        infos.push_back({tensor.name, *parse_dtype(tensor.dtype), tensor.shape, false, 0});
    ModelWriter writer(folder_.file("pieces.h5"), some_texts(), infos, {});
    for (const MadeTensor& tensor : odd_tensors()) {
        for (size_t done = 0; done < tensor.bytes.size(); done += 1001) {
            const size_t n = std::min<size_t>(1001, tensor.bytes.size() - done);
            writer.append(tensor.bytes.data() + done, static_cast<int64_t>(n));
        }
    }
    writer.finish();
    EXPECT_EQ(test::read_file(path_), test::read_file(folder_.file("pieces.h5")));
}

/// The elements of a hyperslab, one at a time.
std::string slab_by_element(const MadeTensor& tensor, const std::vector<int64_t>& offset,
                            const std::vector<int64_t>& count) {
    const auto element_bytes = static_cast<size_t>(size_of(*parse_dtype(tensor.dtype)));
    int64_t n = 1;
    for (const int64_t c : count)
        n *= c;
    std::string out;
    for (int64_t i = 0; i < n; ++i) {
        int64_t rest = i;
        int64_t place = 0;
        int64_t stride = 1;
        for (size_t d = count.size(); d-- > 0;) {
            place += (offset[d] + rest % count[d]) * stride;
            rest /= count[d];
            stride *= tensor.shape[d];
        }
        out += tensor.bytes.substr(static_cast<size_t>(place) * element_bytes, element_bytes);
    }
    return out;
}

TEST_F(ModelFileTest, ReadsEveryKindOfHyperslab) {
    write_model(path_, odd_tensors(), some_texts());
    const ModelFile file = ModelFile::open(path_);
    std::mt19937 random(7);
    for (const MadeTensor& tensor : odd_tensors()) {
        for (int repetition = 0; repetition < 200; ++repetition) {
            std::vector<int64_t> offset;
            std::vector<int64_t> count;
            size_t n = static_cast<size_t>(size_of(*parse_dtype(tensor.dtype)));
            for (const int64_t size : tensor.shape) {
                const bool whole = random() % 3 == 0;
                offset.push_back(whole ? 0
                                       : static_cast<int64_t>(random() % static_cast<uint64_t>(size + 1)));
                const int64_t most = size - offset.back();
                count.push_back(whole ? size
                                      : static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1)));
                n *= static_cast<size_t>(count.back());
            }
            std::string slab(n + 3, '#');
            file.read(tensor.name, offset, count, slab.data());
            ASSERT_EQ(slab.substr(n), "###") << tensor.name;
            ASSERT_EQ(slab.substr(0, n), slab_by_element(tensor, offset, count)) << tensor.name;
        }
    }
}

TEST_F(ModelFileTest, RefusesAHyperslabOutsideOfTheTensor) {
    write_model(path_, odd_tensors(), some_texts());
    const ModelFile file = ModelFile::open(path_);
    std::string out(4096, '\0');
    using Slab = std::pair<std::vector<int64_t>, std::vector<int64_t>>;
    for (const auto& [offset, count] :
         {Slab{{0, 0}, {8, 13}}, Slab{{7, 0}, {1, 1}}, Slab{{-1, 0}, {1, 1}}, Slab{{0, 0}, {-1, 13}},
          Slab{{0}, {7}}, Slab{{1, INT64_MAX}, {1, 1}}}) {
        EXPECT_THAT(
            error_of([&, o = offset, c = count] { file.read("b.matrix", o, c, out.data()); }, exit_failure),
            HasSubstr("'b.matrix' of shape [7, 13]"));
    }
}

TEST_F(ModelFileTest, IsContiguousAlignedAndTypedForOtherPrograms) {
    write_model(path_, odd_tensors(), some_texts());
    const Hdf5Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
    for (const MadeTensor& tensor : odd_tensors()) {
        const Hdf5Handle dataset(H5Dopen2(file.id(), ("/weights/" + tensor.name).c_str(), H5P_DEFAULT));
        ASSERT_TRUE(dataset.valid());
        if (!tensor.bytes.empty()) {
            EXPECT_EQ(H5Dget_offset(dataset.id()) % 4096, 0u) << tensor.name;
        }
        std::vector<float> values(std::max<size_t>(1, tensor.bytes.size() / 2));
        ASSERT_GE(H5Dread(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
        if (tensor.dtype != "BF16") continue;
        for (size_t i = 0; i < tensor.bytes.size() / 2; ++i) {
            uint16_t bits = 0;
            std::memcpy(&bits, tensor.bytes.data() + 2 * i, 2);
            ASSERT_EQ(values[i], bf16_to_f32(bits)) << tensor.name << " " << i;
        }
    }
}

TEST_F(ModelFileTest, H5pyShowsBf16AsNumbers) {
    if (std::system("/usr/bin/python3 -c 'import h5py' 2> /dev/null") != 0)
        GTEST_SKIP() << "no h5py for /usr/bin/python3";
    MadeTensor tensor{"w", "BF16", {4}, {}};
    for (const float value : {1.0f, -0.5f, 3.140625f, 1e38f}) {
        const uint16_t bits = f32_to_bf16(value);
        tensor.bytes.append(reinterpret_cast<const char*>(&bits), 2);
    }
    write_model(path_, {tensor}, some_texts());
    const std::string script =
        "import h5py, sys; f = h5py.File(sys.argv[1]); w = f['weights/w'][()]; "
        "assert w.dtype.kind == 'f' and list(w[:3]) == [1.0, -0.5, 3.140625] and "
        "9.9e37 < w[3] < 1.01e38, w; assert f['config'][()].decode().startswith('{')";
    EXPECT_EQ(std::system(("/usr/bin/python3 -c \"" + script + "\" " + path_).c_str()), 0);
}

TEST_F(ModelFileTest, ShardsAreFoundBesideTheMainFile) {
    write_model(path_, odd_tensors(), some_texts(), {false, 1000});
    const std::vector<std::string> names{"m-00001-of-00003.h5", "m-00002-of-00003.h5", "m-00003-of-00003.h5",
                                         "m.h5"};
    EXPECT_EQ(names_in_folder(), names);
    const fs::path moved = folder_.path() / "moved";
    fs::create_directory(moved);
    for (const std::string& name : names)
        fs::rename(folder_.path() / name, moved / name);
    const ModelFile file = ModelFile::open((moved / "m.h5").string());
    EXPECT_EQ(file.files().size(), 4u);
    expect_holds(file, odd_tensors());
    file.verify();

    {
        const Hdf5Handle main(H5Fopen((moved / "m.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
        EXPECT_TRUE(Hdf5Handle(H5Dopen2(main.id(), "/weights/e.large", H5P_DEFAULT)).valid()) << "for others";
    }
    fs::create_symlink(moved / "m.h5", path_);
    expect_holds(ModelFile::open(path_), odd_tensors());
}

TEST_F(ModelFileTest, AMissingOrForeignShardIsNamed) {
    write_model(path_, odd_tensors(), some_texts(), {false, 1000});
    std::vector<MadeTensor> others = odd_tensors();
    others[0].bytes[0] ^= 1;
    const std::string shard = folder_.file("m-00001-of-00003.h5");
    fs::rename(shard, folder_.file("kept.h5"));
    EXPECT_THAT(open_error(), testing::AllOf(HasSubstr(shard), HasSubstr("missing")));
    write_model(folder_.file("n.h5"), others, some_texts(), {false, 1000});
    fs::rename(folder_.file("n-00001-of-00003.h5"), shard);
    EXPECT_THAT(open_error(), testing::AllOf(HasSubstr(shard), HasSubstr("belongs to another model")));
    test::write_file(shard, "");
    EXPECT_THAT(open_error(), testing::AllOf(HasSubstr(shard), HasSubstr("is empty")));
    fs::rename(folder_.file("kept.h5"), shard);
    EXPECT_EQ(open_error(), "");
}

TEST_F(ModelFileTest, DoesNotReplaceAModelUnlessTold) {
    write_model(path_, odd_tensors(), some_texts(), {false, 400});
    const std::vector<MadeTensor> few{make_tensor("x", DType::f32, {300})};
    EXPECT_THAT(error_of([&] { write_model(path_, few, some_texts()); }),
                testing::AllOf(HasSubstr(path_ + " exists"), HasSubstr("--force")));
    expect_holds(ModelFile::open(path_), odd_tensors());
    write_model(path_, few, some_texts(), {true, 0});
    expect_holds(ModelFile::open(path_), few);
    EXPECT_EQ(names_in_folder(), std::vector<std::string>{"m.h5"}) << "shards of the replaced model stay";

    test::write_file(folder_.file("n-00001-of-00001.h5"), "mine");
    EXPECT_THAT(error_of([&] {
                    write_model(folder_.file("n.h5"), few, some_texts(), {false, 8});
                }),
                HasSubstr("n-00001-of-00001.h5 exists"));
}

TEST_F(ModelFileTest, AnUnfinishedModelLeavesNothing) {
    {
        ModelWriter writer(path_, some_texts(),
                           {{"w", DType::f32, {10}, false, 0}, {"v", DType::f32, {10}, false, 0}},
                           {false, 8});
        const std::string bytes(40, 'x');
        writer.append(bytes.data(), 40);
        EXPECT_EQ(names_in_folder().size(), 3u);
        EXPECT_FALSE(fs::exists(path_));
        EXPECT_THAT(error_of([&] { writer.append(bytes.data(), 41); }, exit_failure),
                    HasSubstr("more bytes"));
        EXPECT_THAT(error_of([&] { writer.finish(); }, exit_failure),
                    HasSubstr("'v' was not written to its end"));
    }
    EXPECT_TRUE(names_in_folder().empty());
}

TEST_F(ModelFileTest, NamesAFolderThatCannotBeWritten) {
    const std::vector<MadeTensor> few{make_tensor("x", DType::f32, {3})};
    const std::string nowhere = folder_.file("no/such/m.h5");
    EXPECT_THAT(error_of([&] { write_model(nowhere, few, some_texts()); }), HasSubstr("there is no folder"));
    EXPECT_THAT(error_of([&] { write_model(folder_.path().string(), few, some_texts()); }),
                HasSubstr("it is a folder"));
    EXPECT_THAT(error_of([&] { write_model(folder_.path().string() + "/", few, some_texts()); }),
                HasSubstr("not a name"));
    EXPECT_THAT(error_of([&] {
                    ModelWriter(path_, some_texts(), {{"w", DType::f32, {int64_t{1} << 50}, false, 0}}, {});
                }),
                HasSubstr("are free in"));
    EXPECT_TRUE(names_in_folder().empty());
}

}  // namespace
}  // namespace mixserve::io
