#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "io/hdf5_format.h"
#include "io/model_file.h"
#include "io/model_fixture.h"
#include "support/test_support.h"

#if defined(__SANITIZE_ADDRESS__)
// HDF5 1.10.8 loses memory of its own when it opens a damaged file.
extern "C" const char* __lsan_default_suppressions() {
    return "leak:libhdf5";
}
#endif

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::MadeTensor;
using test::make_tensor;
using test::write_model;
using testing::AllOf;
using testing::HasSubstr;

ModelTexts some_texts() {
    ModelTexts texts;
    texts.config = R"({"model_type": "x"})";
    return texts;
}

class DamageTest : public testing::Test {
  protected:
    test::TemporaryFolder folder_;
    std::string path_ = folder_.file("m.h5");
    std::vector<MadeTensor> tensors_{make_tensor("a", DType::bf16, {40, 31}),
                                     make_tensor("b", DType::f32, {2, 3, 500})};

    std::string open_error() const {
        return error_of([&] { ModelFile::open(path_).verify(); });
    }
    Hdf5Handle change() const { return Hdf5Handle(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)); }
};

TEST_F(DamageTest, FilesThatAreNoModels) {
    EXPECT_THAT(open_error(),
                AllOf(HasSubstr(path_), HasSubstr("no such file"), HasSubstr("mixserve convert")));
    EXPECT_THAT(error_of([&] { ModelFile::open(folder_.path().string()); }), HasSubstr("is a folder"));
    test::write_file(path_, "");
    EXPECT_THAT(open_error(), AllOf(HasSubstr(path_), HasSubstr("is empty")));
    for (const std::string& text : {std::string("x"), std::string("{\"a\": 1}"), std::string(100000, '\0')}) {
        test::write_file(path_, text);
        EXPECT_THAT(open_error(), AllOf(HasSubstr(path_), HasSubstr("not an HDF5 file")));
    }
    {
        const Hdf5Handle file(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
        ASSERT_TRUE(file.valid());
    }
    EXPECT_THAT(open_error(), AllOf(HasSubstr(path_), HasSubstr("not a model of this program")));
}

TEST_F(DamageTest, EveryTruncationIsSeenAtOpen) {
    write_model(path_, tensors_, some_texts());
    const std::string whole = test::read_file(path_);
    for (size_t n = 1; n < whole.size(); n += whole.size() / 97) {
        test::write_file(path_, whole.substr(0, n));
        EXPECT_THAT(error_of([&] { ModelFile::open(path_); }), HasSubstr(path_))
            << n << " of " << whole.size();
    }
    test::write_file(path_, whole.substr(0, whole.size() - 1));
    EXPECT_THAT(error_of([&] { ModelFile::open(path_); }), HasSubstr("truncated"));
}

TEST_F(DamageTest, AFlippedByteOfAWeightIsFound) {
    write_model(path_, tensors_, some_texts());
    const std::string whole = test::read_file(path_);
    for (const MadeTensor& tensor : tensors_) {
        const size_t begin = whole.find(tensor.bytes);
        ASSERT_NE(begin, std::string::npos);
        for (const size_t at : {begin, begin + tensor.bytes.size() / 2, begin + tensor.bytes.size() - 1}) {
            std::string bytes = whole;
            bytes[at] ^= 0x10;
            test::write_file(path_, bytes);
            const ModelFile file = ModelFile::open(path_);
            EXPECT_THAT(error_of([&] { file.verify(); }),
                        AllOf(HasSubstr(path_), HasSubstr("'" + tensor.name + "' is damaged"),
                              HasSubstr("should be")));
        }
    }
}

TEST_F(DamageTest, AFlippedByteAnywhereIsFoundOrChangesNothing) {
    write_model(path_, tensors_, some_texts());
    const std::string whole = test::read_file(path_);
    int n_found = 0;
    for (size_t at = 0; at < whole.size(); at += 61) {
        std::string bytes = whole;
        bytes[at] = static_cast<char>(~bytes[at]);
        test::write_file(path_, bytes);
        const std::string error = open_error();
        if (!error.empty()) {
            ++n_found;
            EXPECT_THAT(error, HasSubstr("m.h5")) << at;
            continue;
        }
        const ModelFile file = ModelFile::open(path_);
        EXPECT_EQ(file.config(), *some_texts().config) << at;
        ASSERT_EQ(file.tensors().size(), tensors_.size()) << at;
        for (const MadeTensor& tensor : tensors_)
            ASSERT_EQ(test::read_tensor(file, tensor.name), tensor.bytes) << at;
    }
    EXPECT_GT(n_found, static_cast<int>(tensors_[0].bytes.size() + tensors_[1].bytes.size()) / 61 - 2);
}

TEST_F(DamageTest, AModelFromTheFutureIsRefused) {
    write_model(path_, tensors_, some_texts());
    overwrite_attribute(change().id(), attribute_version, format_version + 1);
    EXPECT_THAT(open_error(), AllOf(HasSubstr("format version 2"), HasSubstr("use a newer mixserve")));
}

TEST_F(DamageTest, PartsThatAreMissing) {
    write_model(path_, tensors_, some_texts());
    H5Ldelete(change().id(), "config", H5P_DEFAULT);
    EXPECT_THAT(open_error(), AllOf(HasSubstr(path_), HasSubstr("no /config")));
    write_model(path_, tensors_, some_texts(), {true, 0});
    H5Ldelete(change().id(), "weights", H5P_DEFAULT);
    EXPECT_THAT(open_error(), HasSubstr("no /weights"));
    write_model(path_, tensors_, some_texts(), {true, 0});
    H5Adelete_by_name(change().id(), "/weights/b", attribute_checksum, H5P_DEFAULT);
    EXPECT_THAT(open_error(), AllOf(HasSubstr("tensor 'b'"), HasSubstr("xxh3_64")));
    write_model(path_, tensors_, some_texts(), {true, 0});
    H5Adelete(change().id(), attribute_fingerprint);
    EXPECT_THAT(open_error(), HasSubstr("no fingerprint"));
}

TEST_F(DamageTest, DatasetsOfOtherTypesAndLayouts) {
    write_model(path_, tensors_, some_texts());
    const auto add = [&](hid_t type, H5D_layout_t layout) {
        const Hdf5Handle file = change();
        H5Ldelete(file.id(), "/weights/b", H5P_DEFAULT);
        const hsize_t extent = 6;
        const Hdf5Handle space(H5Screate_simple(1, &extent, nullptr));
        const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE));
        if (layout == H5D_CHUNKED) H5Pset_chunk(creation.id(), 1, &extent);
        const Hdf5Handle dataset(
            H5Dcreate2(file.id(), "/weights/b", type, space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT));
        write_attribute(dataset.id(), attribute_checksum, uint64_t{0});
        write_attribute(dataset.id(), attribute_transposed, uint64_t{0});
    };
    add(H5T_STD_I32LE, H5D_CONTIGUOUS);
    EXPECT_THAT(open_error(), AllOf(HasSubstr("tensor 'b'"), HasSubstr("element type")));
    add(H5T_IEEE_F32BE, H5D_CONTIGUOUS);
    EXPECT_THAT(open_error(), HasSubstr("element type"));
    add(H5T_IEEE_F32LE, H5D_CHUNKED);
    EXPECT_THAT(open_error(), HasSubstr("not contiguous"));
    add(H5T_IEEE_F32LE, H5D_CONTIGUOUS);
    EXPECT_THAT(open_error(), HasSubstr("no data")) << "never written";
}

TEST_F(DamageTest, AFullDiskIsOneErrorAndLeavesNothing) {
    struct rlimit before {};
    getrlimit(RLIMIT_FSIZE, &before);
    auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
    const MadeTensor large = make_tensor("large", DType::f32, {1000, 1000});
    std::vector<std::string> errors;
    for (const rlim_t limit : {rlim_t{1000}, rlim_t{100'000}, rlim_t{3'000'000}}) {
        const struct rlimit small { limit, before.rlim_max };
        setrlimit(RLIMIT_FSIZE, &small);
        errors.push_back(error_of([&] { write_model(path_, {large}, some_texts()); }, exit_failure));
        setrlimit(RLIMIT_FSIZE, &before);
    }
    std::signal(SIGXFSZ, handler);
    for (const std::string& error : errors)
        EXPECT_THAT(error, AllOf(HasSubstr(path_ + ".partial"), HasSubstr("File too large")));
    EXPECT_TRUE(fs::is_empty(folder_.path()));
    write_model(path_, {large}, some_texts());
    EXPECT_EQ(open_error(), "") << "and the next one works";
}

}  // namespace
}  // namespace mixserve::io
