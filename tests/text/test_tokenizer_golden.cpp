// ../shared/tokenizers: what Hugging Face's tokenizers made of the same files.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/test_support.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

struct Golden {
    std::string text;
    std::vector<int32_t> ids;
    std::vector<int32_t> ids_without_special;
    std::string decoded;
    std::string decoded_skip_special;
};

std::vector<Golden> read_goldens(const std::filesystem::path& path) {
    std::vector<Golden> goldens;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const json row = json::parse(line);
        goldens.push_back({row.at("text"), row.at("ids"), row.at("ids_without_special"), row.at("decoded"),
                           row.at("decoded_skip_special")});
    }
    return goldens;
}

/// Streams the ids; every piece must be whole characters, and the pieces with what is held the text so far.
std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
    StreamDecoder decoder(tokenizer, skip_special);
    std::string text;
    for (size_t i = 0; i < ids.size(); ++i) {
        const std::string piece = decoder.push(ids[i]);
        EXPECT_TRUE(utf8::is_valid(piece));
        text += piece;
        const std::span<const int32_t> so_far(ids.data(), i + 1);
        EXPECT_EQ(text + decoder.held(), tokenizer.decode(so_far, skip_special));
    }
    return text + decoder.finish();
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, EqualsEveryLineBothWays) {
    MIXSERVE_NEEDS_SHARED(folder, std::string("tokenizers/") + GetParam());
    const Tokenizer tokenizer = Tokenizer::from_json(test::read_file(folder / "tokenizer.json"));
    const std::vector<Golden> goldens = read_goldens(folder / "golden.jsonl");
    ASSERT_GT(goldens.size(), 100U);
    for (const Golden& golden : goldens) {
        SCOPED_TRACE(golden.text);
        EXPECT_EQ(tokenizer.encode(golden.text, true), golden.ids);
        EXPECT_EQ(tokenizer.encode(golden.text, false), golden.ids_without_special);
        EXPECT_EQ(tokenizer.decode(golden.ids_without_special, false), golden.decoded);
        EXPECT_EQ(tokenizer.decode(golden.ids, true), golden.decoded_skip_special);
    }
}

TEST_P(TokenizerGolden, StreamsWhatItDecodes) {
    MIXSERVE_NEEDS_SHARED(folder, std::string("tokenizers/") + GetParam());
    const Tokenizer tokenizer = Tokenizer::from_json(test::read_file(folder / "tokenizer.json"));
    for (const Golden& golden : read_goldens(folder / "golden.jsonl")) {
        SCOPED_TRACE(golden.text);
        EXPECT_EQ(stream(tokenizer, golden.ids_without_special, false), golden.decoded);
        EXPECT_EQ(stream(tokenizer, golden.ids, true), golden.decoded_skip_special);
    }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerGolden, testing::Values("qwen", "deepseek", "mistral-v1"),
                         [](const auto& instance) {
                             std::string name = instance.param;
                             for (char& c : name)
                                 c = c == '-' ? '_' : c;
                             return name;
                         });

TEST(SampleModelTokenizer, EqualsItsGolden) {
    MIXSERVE_NEEDS_SHARED(folder, "models/shakespeare-moe");
    const Tokenizer tokenizer = Tokenizer::from_json(test::read_file(folder / "tokenizer.json"));
    EXPECT_EQ(tokenizer.vocab_size(), 4096);
    EXPECT_EQ(tokenizer.token_to_id("<|im_start|>"), 1);
    EXPECT_TRUE(tokenizer.is_special(1));
    const std::string text = "ROMEO:\nO, she doth teach the torches to burn bright!";
    const std::vector<int32_t> ids = tokenizer.encode(text, true);
    EXPECT_LT(ids.size(), text.size() / 2);
    EXPECT_EQ(tokenizer.decode(ids, false), text);
}

}  // namespace
}  // namespace mixserve::text
