#include <gmock/gmock.h>

#include "io/checkpoint_builder.h"
#include "io/model_fixture.h"
#include "io/safetensors.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using test::error_of;
using test::make_tensor;
using testing::AllOf;
using testing::HasSubstr;

/// What reading a header with so many bytes of data behind it says.
std::string header_error(const std::string& header, int64_t data_bytes) {
    return error_of([&] {
        parse_safetensors_header(header, 8 + static_cast<int64_t>(header.size()) + data_bytes,
                                 "f.safetensors");
    });
}

TEST(SafeTensors, ReadsTypesShapesAndPlaces) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("a.safetensors");
    const std::string bytes = test::safetensors_bytes({make_tensor("z", DType::bf16, {3, 5}),
                                                       make_tensor("a", DType::f32, {}),
                                                       make_tensor("m", DType::f16, {2, 0}),
                                                       {"q", "F8_E4M3", {7}, "1234567"}});
    test::write_file(path, bytes);
    const std::vector<SafeTensor> tensors = read_safetensors_header(path);
    ASSERT_EQ(tensors.size(), 4u);
    EXPECT_EQ(tensors[0].name, "z");
    EXPECT_EQ(tensors[0].dtype, DType::bf16);
    EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{3, 5}));
    EXPECT_EQ(tensors[0].n_bytes, 30);
    EXPECT_EQ(tensors[1].name, "a");
    EXPECT_EQ(tensors[1].n_bytes, 4);
    EXPECT_EQ(tensors[2].n_bytes, 0);
    EXPECT_EQ(tensors[3].stored_dtype, "F8_E4M3");
    EXPECT_FALSE(tensors[3].dtype);
    EXPECT_EQ(bytes.substr(static_cast<size_t>(tensors[3].offset)), "1234567");
}

TEST(SafeTensors, DamagedHeaders) {
    const auto one = [](const std::string& rest) { return "{\"w\":" + rest + "}"; };
    EXPECT_EQ(header_error(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), 8), "");
    EXPECT_THAT(header_error("", 0), AllOf(HasSubstr("f.safetensors"), HasSubstr("not JSON")));
    EXPECT_THAT(header_error("{\"w\":", 0), HasSubstr("not JSON"));
    EXPECT_THAT(header_error("[1]", 0), HasSubstr("not a JSON object"));
    EXPECT_THAT(header_error(one("3"), 0),
                AllOf(HasSubstr("'w'"), HasSubstr("not described by a JSON object")));
    EXPECT_THAT(header_error(one(R"({"shape":[2],"data_offsets":[0,8]})"), 8), HasSubstr("no 'dtype'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"Q4","shape":[2],"data_offsets":[0,8]})"), 8),
                HasSubstr("unknown type 'Q4'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","data_offsets":[0,8]})"), 8),
                HasSubstr("no list 'shape'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), 8),
                HasSubstr("the value -2 in 'shape'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[2.5],"data_offsets":[0,8]})"), 8),
                HasSubstr("'shape'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), 8),
                HasSubstr("bad 'data_offsets'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), 8),
                HasSubstr("bad 'data_offsets'"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), 8),
                HasSubstr("has 8 bytes, which is not what type F32 and shape [3]"));
    EXPECT_THAT(
        header_error(one(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]})"), 0),
        HasSubstr("which is not"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), 7),
                HasSubstr("truncated"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), 9),
                HasSubstr("the last 1 bytes belong to no tensor"));
    EXPECT_THAT(header_error(one(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})"), 12),
                HasSubstr("the 4 bytes before tensor 'w'"));
    EXPECT_THAT(header_error(R"({"a/b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
                HasSubstr("'a/b' is not a name"));
}

TEST(SafeTensors, TensorsThatOverlapOrAreThereTwice) {
    const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
    const std::string b = R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]})";
    EXPECT_THAT(header_error("{" + a + "," + b + "}", 12), HasSubstr("'a' and 'b' overlap"));
    EXPECT_THAT(header_error("{" + a + "," + a + "}", 8), HasSubstr("'a' is there twice"));
}

TEST(SafeTensors, FilesThatAreNone) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("w.safetensors");
    const auto error = [&](const std::string& bytes) {
        test::write_file(path, bytes);
        return error_of([&] { read_safetensors_header(path); });
    };
    EXPECT_THAT(error_of([&] { read_safetensors_header(path); }),
                AllOf(HasSubstr(path), HasSubstr("No such file")));
    EXPECT_THAT(error_of([&] { read_safetensors_header(folder.path().string()); }),
                HasSubstr("is not a file"));
    EXPECT_THAT(error(""), AllOf(HasSubstr(path), HasSubstr("it has 0 bytes")));
    EXPECT_THAT(error("1234567"), HasSubstr("it has 7 bytes"));
    EXPECT_THAT(error("version https://git-lfs.github.com/spec/v1\n"), HasSubstr("git lfs pull"));
    EXPECT_THAT(error(std::string(100, '\xff')), HasSubstr("header would have"));
    EXPECT_THAT(error(std::string("\x40\0\0\0\0\0\0\0{}", 10)),
                HasSubstr("truncated: its header of 64 bytes"));
}

}  // namespace
}  // namespace mixserve::io
