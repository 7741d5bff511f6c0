// The parts that the published tokenizers of test_tokenizer_golden.cpp do not reach, on small ones. Expected
// values were checked with Hugging Face's tokenizers 0.23.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "tokenizer_builder.h"

namespace mixserve::text {
namespace {

using test::added_token;
using test::build;
using test::tokenizer_json;
using test::tokens_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

using Ids = std::vector<int32_t>;

TEST(Bpe, MergesByRankThenFromTheLeft) {
    const Tokenizer t =
        build(tokenizer_json({"a", "b", "c", "bc", "ab", "abc", "aa"}, {"b c", "a b", "a bc", "a a"}));
    EXPECT_THAT(tokens_of(t, "abc"), ElementsAre("abc"));
    EXPECT_THAT(tokens_of(t, "aaa"), ElementsAre("aa", "a"));
    EXPECT_THAT(tokens_of(t, "abab"), ElementsAre("ab", "ab"));
    EXPECT_TRUE(t.encode("", true).empty());
}

TEST(Bpe, TakesMergesAsPairsToo) {
    json document = tokenizer_json({"a", " ", "a "});
    document["model"]["merges"] = json::array({json::array({"a", " "})});
    EXPECT_THAT(tokens_of(build(document), "a a"), ElementsAre("a ", "a"));
}

TEST(Bpe, IgnoreMergesTakesAWholeWordThatIsAToken) {
    json document = tokenizer_json({"a", "b", "ab"});
    EXPECT_THAT(tokens_of(build(document), "ab"), ElementsAre("a", "b"));
    document["model"]["ignore_merges"] = true;
    EXPECT_THAT(tokens_of(build(document), "ab"), ElementsAre("ab"));
}

TEST(Bpe, UnknownCharacters) {
    json document = tokenizer_json({"<unk>", "a", "<0xC3>", "<0xA9>"});
    EXPECT_EQ(build(document).encode("xay", true), Ids({1})) << "without unk_token they are dropped";
    document["model"]["unk_token"] = "<unk>";
    EXPECT_EQ(build(document).encode("xyaz", true), Ids({0, 0, 1, 0}));
    document["model"]["fuse_unk"] = true;
    EXPECT_EQ(build(document).encode("xyaz", true), Ids({0, 1, 0}));
    document["model"]["byte_fallback"] = true;
    EXPECT_EQ(build(document).encode("aé", true), Ids({1, 2, 3}));
    EXPECT_EQ(build(document).encode("aü", true), Ids({1, 0})) << "a byte of it has no token";
}

/// The definition, pair by pair: what the queue and the cache must agree with.
Ids merge_plainly(std::string_view word, const std::vector<std::string>& tokens,
                  const std::vector<std::string>& merges) {
    std::vector<std::string> parts;
    for (const char c : word)
        parts.emplace_back(1, c);
    while (true) {
        size_t best = merges.size();
        size_t at = 0;
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
            const auto it = std::find(merges.begin(), merges.end(), parts[i] + " " + parts[i + 1]);
            const auto rank = static_cast<size_t>(it - merges.begin());
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == merges.size()) break;
        parts[at] += parts[at + 1];
        parts.erase(parts.begin() + static_cast<ptrdiff_t>(at) + 1);
    }
    Ids ids;
    for (const std::string& part : parts) {
        ids.push_back(static_cast<int32_t>(std::find(tokens.begin(), tokens.end(), part) - tokens.begin()));
    }
    return ids;
}

TEST(Bpe, ShortAndLongWordsFollowTheDefinition) {
    const std::vector<std::string> tokens = {"a",   "b",  "c",  "ab",  "bc",   "abc", "ca",  "aa",
                                             "aaa", "bb", "cc", "aab", "abca", "bbb", "bca", "ba"};
    const std::vector<std::string> merges = {"c a",  "a b",  "b b",   "b c",  "ab c", "a a",  "aa a",
                                             "a ab", "a bc", "ab ca", "b bb", "b ca", "a aa", "b a"};
    const Tokenizer t = build(tokenizer_json(tokens, merges));
    std::mt19937 random(7);
    for (int i = 0; i < 600; ++i) {
        std::string word(random() % (i % 10 == 0 ? 200 : 14), ' ');
        for (char& c : word)
            c = static_cast<char>('a' + random() % 3);
        EXPECT_EQ(t.encode(word, false), merge_plainly(word, tokens, merges)) << word;
    }
}

TEST(Bpe, WordOfAMegabyte) {
    const Tokenizer t = build(tokenizer_json({"a", "aa", "aaaa"}, {"a a", "aa aa"}));
    EXPECT_EQ(t.encode(std::string(size_t{1} << 20, 'a'), false), Ids(size_t{1} << 18, 2));
}

TEST(Bpe, CutsAtMetaspacesOnlyWhereNoMergeGoesOver) {
    const std::vector<std::string> tokens = {"▁", "a", "b", "▁a", "▁▁", "a▁"};
    EXPECT_THAT(tokens_of(build(tokenizer_json(tokens, {"▁ a", "▁ ▁"})), "a▁▁a▁ab▁"),
                ElementsAre("a", "▁", "▁a", "▁a", "b", "▁"));
    EXPECT_THAT(tokens_of(build(tokenizer_json(tokens, {"a ▁", "▁ a"})), "a▁a▁"), ElementsAre("a▁", "a▁"));
}

TEST(AddedTokens, LeftmostThenLongest) {
    json document = tokenizer_json({"a", "b", "c"});
    document["added_tokens"] = {added_token(3, "ab"), added_token(4, "abc"), added_token(5, "bca")};
    EXPECT_EQ(build(document).encode("abcabab", true), Ids({4, 3, 3}));
    EXPECT_EQ(build(document).encode("bcab", true), Ids({5, 1}));
}

TEST(AddedTokens, StripsAndWords) {
    json document = tokenizer_json({"a", "b", "c", "ab", " "}, {"a b"});
    document["added_tokens"] = {added_token(3, "ab", {{"single_word", true}}),
                                added_token(2, "c", {{"lstrip", true}, {"rstrip", true}})};
    EXPECT_EQ(build(document).encode("ab abb  c  ab", true), Ids({3, 4, 3, 1, 2, 3}));
}

TEST(AddedTokens, NormalizedOnesAreFoundInTheNormalizedText) {
    json document = tokenizer_json({"a", "b", "x", "X"});
    document["normalizer"] = {{"type", "Lowercase"}};
    document["added_tokens"] = {added_token(4, "AB", {{"normalized", true}, {"special", false}}),
                                added_token(5, "XX")};
    EXPECT_EQ(build(document).encode("abABxxXX", true), Ids({4, 4, 2, 2, 5}));
}

TEST(AddedTokens, SpecialOnesCanBeSkipped) {
    json document = tokenizer_json({"a"});
    document["added_tokens"] = {added_token(1, "<s>"), added_token(2, "<t>", {{"special", false}})};
    document["decoder"] = {{"type", "Fuse"}};
    const Tokenizer t = build(document);
    EXPECT_EQ(t.decode(Ids{1, 0, 2}, false), "<s>a<t>");
    EXPECT_EQ(t.decode(Ids{1, 0, 2}, true), "a<t>");
    EXPECT_TRUE(t.is_special(1));
    EXPECT_FALSE(t.is_special(2));
    EXPECT_FALSE(t.is_special(99));
    EXPECT_EQ(t.vocab_size(), 3);
    EXPECT_EQ(t.token_to_id("<t>"), 2);
    EXPECT_EQ(t.token_to_id("b"), std::nullopt);
    EXPECT_EQ(t.id_to_token(-1), std::nullopt);
}

TEST(PostProcessor, PutsTokensAround) {
    json document = tokenizer_json({"a"});
    document["added_tokens"] = {added_token(1, "<s>"), added_token(2, "</s>")};
    const json begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
    const json end = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
    const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const json templated = {{"type", "TemplateProcessing"},
                            {"single", {begin, text, end}},
                            {"pair", json::array()},
                            {"special_tokens",
                             {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}},
                              {"</s>", {{"id", "</s>"}, {"ids", {2}}, {"tokens", {"</s>"}}}}}}};
    document["post_processor"] = {
        {"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}, {"trim_offsets", false}}, templated}}};
    const Tokenizer t = build(document);
    EXPECT_EQ(t.encode("a", true), Ids({1, 0, 2}));
    EXPECT_EQ(t.encode("", true), Ids({1, 2}));
    EXPECT_EQ(t.encode("a", false), Ids({0}));
    EXPECT_EQ(t.encode("<s>a", false), Ids({1, 0})) << "written in the text they are always found";
}

TEST(Decode, RefusesIdsOutsideOfTheVocabulary) {
    const Tokenizer t = build(tokenizer_json({"a"}));
    EXPECT_THROW(t.decode(Ids{1}, false), Error);
    EXPECT_THROW(t.decode(Ids{-1}, false), Error);
    EXPECT_THROW(StreamDecoder(t, false).push(7), Error);
}

TEST(Encode, RefusesWhatIsNoUtf8) {
    const Tokenizer t = build(tokenizer_json({"a"}));
    for (const char* bad :
         {"a\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "aaaaaaaaaaaaaaaa\xe2\x82"}) {
        EXPECT_THROW(t.encode(bad, false), Error) << bad;
    }
}

TEST(Encode, IsTheSameFromManyThreads) {
    const Tokenizer t = build(tokenizer_json({"a", "b", "ab", "aba"}, {"a b", "ab a"}));
    std::mt19937 random(3);
    std::vector<std::string> texts(200);
    std::vector<Ids> expected;
    for (std::string& text : texts) {
        for (size_t n = random() % 30; n > 0; --n)
            text += random() % 2 ? 'a' : 'b';
        expected.push_back(t.encode(text, false));
    }
    std::vector<int> failures(4, 0);
    std::vector<std::thread> threads;
    for (int& failed : failures) {
        threads.emplace_back([&] {
            for (size_t i = 0; i < texts.size(); ++i)
                failed += t.encode(texts[i], false) != expected[i] ? 1 : 0;
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_THAT(failures, ElementsAre(0, 0, 0, 0));
}

/// Each change of the file, and what its error must name.
struct Refusal {
    const char* pointer;
    json value;
    const char* named;
};

TEST(Errors, NameTheKey) {
    const std::vector<Refusal> refusals = {
        {"/model/type", "Unigram", "model.type"},
        {"/model/dropout", 0.1, "model.dropout"},
        {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
        {"/model/vocab", json::array(), "model.vocab"},
        {"/model/vocab/b", -1, "'b'"},
        {"/model/vocab/b", 1 << 30, "'b'"},
        {"/model/vocab/b", 0, "same id 0"},
        {"/model/merges", json::array({"a c"}), "'c'"},
        {"/model/merges", json::array({"a  b"}), "merge 0"},
        {"/model/byte_fallbak", true, "did you mean 'byte_fallback'"},
        {"/normalizer", {{"type", "Precompiled"}}, "normalizer: type 'Precompiled'"},
        {"/normalizer", {{"type", "Strip"}, {"side", 1}}, "'side'"},
        {"/pre_tokenizer", {{"type", "UnicodeScripts"}}, "pre_tokenizer: type 'UnicodeScripts'"},
        {"/pre_tokenizer",
         {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}, {"invert", false}},
         "pre_tokenizer.pattern.Regex"},
        {"/pre_tokenizer",
         {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Isolate"}, {"invert", false}},
         "pre_tokenizer.behavior"},
        {"/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "x"}}}}}, "pretokenizers[0]"},
        {"/post_processor", {{"type", "RobertaProcessing"}}, "post_processor"},
        {"/decoder", {{"type", "WordPiece"}}, "decoder: type 'WordPiece'"},
        {"/added_tokens", json::array({{{"id", 5}, {"content", 1}}}), "added_tokens[0].content"},
        {"/added_tokens", json::array({added_token(5, "a")}), "'a' has id 5"},
        {"/models", 1, "'models'"},
    };
    for (const Refusal& refusal : refusals) {
        json document = tokenizer_json({"a", "b", "ab"}, {"a b"});
        document[json::json_pointer(refusal.pointer)] = refusal.value;
        EXPECT_THAT([&] { build(document); }, ThrowsMessage<UsageError>(HasSubstr(refusal.named)))
            << refusal.pointer << " " << refusal.value;
    }
    EXPECT_THAT([] { Tokenizer::from_json("{"); }, ThrowsMessage<UsageError>(HasSubstr("not valid JSON")));
    EXPECT_THROW(Tokenizer::from_json("[]"), UsageError);
}

TEST(Errors, NestedTooDeep) {
    json node = {{"type", "NFC"}};
    for (int i = 0; i < 100; ++i)
        node = {{"type", "Sequence"}, {"normalizers", json::array({node})}};
    json document = tokenizer_json({"a"});
    document["normalizer"] = node;
    EXPECT_THROW(build(document), UsageError);
}

TEST(ByteLevel, WordsAreBytes) {
    std::vector<std::string> tokens(byte_alphabet::characters().begin(), byte_alphabet::characters().end());
    tokens.emplace_back("Ġa");
    json document = tokenizer_json(tokens, {"Ġ a"});
    document["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}};
    document["decoder"] = {{"type", "ByteLevel"}};
    const Tokenizer t = build(document);
    EXPECT_EQ(t.encode("a a", true), Ids({256, 256}));
    EXPECT_EQ(t.encode("é", true), Ids({0x20, 0xc3, 0xa9}));
    EXPECT_EQ(t.decode(t.encode(" 日本\n", true), false), " 日本\n");
    EXPECT_EQ(t.decode(Ids{0xe6, 0x97, 'a', 0xff, 0xe6}, false), "\ufffda\ufffd\ufffd");
}

}  // namespace
}  // namespace mixserve::text
