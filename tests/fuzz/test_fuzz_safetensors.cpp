#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "base/error.h"
#include "io/checkpoint_builder.h"
#include "io/safetensors.h"
#include "support/test_support.h"

// Headers that were bent at random: each is refused with an Error, or describes tensors that tile the file.

namespace mixserve::io {
namespace {

constexpr int n_cases = 20'000;

std::string good_file() {
    return test::safetensors_bytes(
        {test::make_tensor("model.norm.weight", DType::bf16, {8}),
         test::make_tensor("model.layers.0.mlp.experts.3.w1.weight", DType::f16, {2, 4}),
         test::make_tensor("lm_head.weight", DType::f32, {3, 5})});
}

/// Pieces of JSON and numbers at the edges of their types, which random bytes would not find.
const std::vector<std::string>& words() {
    static const std::vector<std::string> all{"{",
                                              "}",
                                              "[",
                                              "]",
                                              ",",
                                              ":",
                                              "\"",
                                              "0",
                                              "-1",
                                              "1e9",
                                              "1.5",
                                              "9223372036854775807",
                                              "18446744073709551615",
                                              "340282366920938463463374607431768211456",
                                              "null",
                                              "\"dtype\"",
                                              "\"shape\"",
                                              "\"data_offsets\"",
                                              "\"F64\"",
                                              "\"F4\"",
                                              "\"lm_head.weight\"",
                                              "\\u0000",
                                              "\xff",
                                              "{\"a\":",
                                              "[[[[[[[[",
                                              "\"__metadata__\":3,"};
    return all;
}

/// Changes the file in one to four places; the header's length follows the header most of the time.
std::string bend(const std::string& good, std::mt19937_64& random) {
    const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
    uint64_t n_header = 0;
    std::memcpy(&n_header, good.data(), sizeof n_header);
    std::string header = good.substr(8, n_header);
    std::string data = good.substr(8 + n_header);
    for (size_t n = 1 + below(4); n > 0 && !header.empty(); --n) {
        const size_t at = below(header.size());
        const size_t length = below(12);
        switch (below(6)) {
            case 0:
                header[at] = static_cast<char>(random());
                break;
            case 1:
                header.erase(at, length);
                break;
            case 2:
                header.insert(at, words()[below(words().size())]);
                break;
            case 3:
                header.replace(at, length, words()[below(words().size())]);
                break;
            case 4:
                header.insert(at, header.substr(below(header.size()), 40));
                break;
            default:
                data.resize(below(data.size() + 4));
                break;
        }
    }
    std::string bytes = test::safetensors_bytes(header, data);
    if (below(8) == 0) bytes[below(8)] = static_cast<char>(random());
    return bytes;
}

/// Every byte after the header belongs to one tensor, and each has the size of its shape.
void expect_sound(const std::vector<SafeTensor>& tensors, int64_t n_bytes) {
    std::set<std::string> names;
    int64_t total_bytes = 0;
    for (const SafeTensor& tensor : tensors) {
        ASSERT_TRUE(names.insert(tensor.name).second) << tensor.name;
        ASSERT_GE(tensor.offset, 8);
        ASSERT_LE(tensor.n_bytes, n_bytes - tensor.offset);
        total_bytes += tensor.n_bytes;
        if (!tensor.dtype) continue;
        int64_t expected = size_of(*tensor.dtype);
        for (const int64_t size : tensor.shape)
            expected *= size;
        ASSERT_EQ(tensor.n_bytes, expected);
    }
    ASSERT_LE(total_bytes, n_bytes);
}

TEST(FuzzSafeTensors, BentHeadersAreRefusedOrSound) {
    const std::string good = good_file();
    std::mt19937_64 random(20261124);
    int n_refused = 0;
    for (int i = 0; i < n_cases; ++i) {
        const std::string bytes = bend(good, random);
        uint64_t n_header = 0;
        std::memcpy(&n_header, bytes.data(), sizeof n_header);
        const auto file_bytes = static_cast<int64_t>(bytes.size());
        try {
            if (n_header > bytes.size() - 8) continue;  // refused before the header is looked at
            expect_sound(
                parse_safetensors_header(std::string_view(bytes).substr(8, n_header), file_bytes, "f"),
                file_bytes);
        } catch (const UsageError&) {
            ++n_refused;
        }
    }
    EXPECT_GT(n_refused, n_cases / 2);
    EXPECT_LT(n_refused, n_cases);
}

TEST(FuzzSafeTensors, BentFilesAreRefusedOrSound) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("f.safetensors");
    std::mt19937_64 random(4);
    for (int i = 0; i < 300; ++i) {
        const std::string bytes = bend(good_file(), random);
        test::write_file(path, bytes.substr(0, random() % 4 == 0 ? random() % bytes.size() : bytes.size()));
        try {
            expect_sound(read_safetensors_header(path), static_cast<int64_t>(bytes.size()));
        } catch (const UsageError& e) {
            ASSERT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
        }
    }
}

}  // namespace
}  // namespace mixserve::io
