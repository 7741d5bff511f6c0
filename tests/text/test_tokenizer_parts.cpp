// Normalizers, pre-tokenizers, decoders and patterns one by one. Expected values were checked with Hugging
// Face's tokenizers 0.23.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "text/newer_characters.h"
#include "text/normalizer.h"
#include "text/oniguruma.h"
#include "text/pattern.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"
#include "tokenizer_builder.h"

namespace mixserve::text {
namespace {

using test::build;
using test::tokenizer_json;
using testing::ElementsAre;
using Pieces = std::vector<std::string>;

std::string normalize(const json& document, const std::string& text) {
    RegexScratch scratch;
    return Normalizer::from_json(JsonNode(document, "normalizer")).apply(text, scratch);
}

TEST(Normalizer, EachType) {
    EXPECT_EQ(normalize({{"type", "NFC"}}, "e\u0301"), "é");
    EXPECT_EQ(normalize({{"type", "NFD"}}, "é"), "e\u0301");
    EXPECT_EQ(normalize({{"type", "NFKC"}}, "ﬁ\u00a0Ⅷ"), "fi VIII");
    EXPECT_EQ(normalize({{"type", "NFKD"}}, "ǆ"), "dz\u030c");
    EXPECT_EQ(normalize({{"type", "Lowercase"}}, "ΑΣ İ"), "ασ i\u0307") << "without context";
    EXPECT_EQ(normalize({{"type", "StripAccents"}}, "e\u0301a\u20dd"), "ea");
    EXPECT_EQ(normalize({{"type", "Prepend"}, {"prepend", "▁"}}, "a"), "▁a");
    EXPECT_EQ(normalize({{"type", "Prepend"}, {"prepend", "▁"}}, ""), "");
    EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, " \u3000a "),
              "a ");
    EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}, " a\u2003\n"),
              " a");
    EXPECT_EQ(normalize({{"type", "Strip"}}, " \t "), "");
    EXPECT_EQ(normalize({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}, " a  b"),
              "▁a▁▁b");
    EXPECT_EQ(normalize({{"type", "Replace"}, {"pattern", {{"Regex", "x*"}}}, {"content", "-"}}, "axxb"),
              "-a-b-");
    const json lower_then_nfc = {{"type", "Sequence"},
                                 {"normalizers", {{{"type", "Lowercase"}}, {{"type", "NFC"}}}}};
    EXPECT_EQ(normalize(lower_then_nfc, "E\u0301"), "é");
}

Pieces split(const json& document, const std::string& text, bool at_start = true) {
    RegexScratch scratch;
    Pieces pieces;
    PreTokenizer::from_json(JsonNode(document, "pre_tokenizer"))
        .split(text, at_start, scratch, [&](std::string_view piece) { pieces.emplace_back(piece); });
    return pieces;
}

json split_json(const json& pattern, const char* behavior, bool invert) {
    return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}

TEST(PreTokenizer, SplitBehaviors) {
    const json dash = {{"String", "-"}};
    const std::string text = "-a--b---c-";
    const auto of = [&](const char* behavior, bool invert) {
        return split(split_json(dash, behavior, invert), text);
    };
    EXPECT_THAT(of("Removed", false), ElementsAre("a", "b", "c"));
    EXPECT_THAT(of("Removed", true), ElementsAre("-", "-", "-", "-", "-", "-", "-"));
    EXPECT_THAT(of("Isolated", false), ElementsAre("-", "a", "-", "-", "b", "-", "-", "-", "c", "-"));
    EXPECT_THAT(of("Isolated", true), of("Isolated", false));
    EXPECT_THAT(of("MergedWithPrevious", false), ElementsAre("-", "a-", "-", "b-", "-", "-", "c-"));
    EXPECT_THAT(of("MergedWithPrevious", true), ElementsAre("-a", "-", "-b", "-", "-", "-c", "-"));
    EXPECT_THAT(of("MergedWithNext", false), ElementsAre("-a", "-", "-b", "-", "-", "-c", "-"));
    EXPECT_THAT(of("MergedWithNext", true), ElementsAre("-", "a-", "-", "b-", "-", "-", "c-"));
    EXPECT_THAT(of("Contiguous", false), ElementsAre("-", "a", "--", "b", "---", "c", "-"));
    EXPECT_THAT(of("Contiguous", true), of("Contiguous", false));
}

TEST(PreTokenizer, OtherTypes) {
    EXPECT_THAT(split({{"type", "Digits"}, {"individual_digits", true}}, "a12٣b"),
                ElementsAre("a", "1", "2", "٣", "b"));
    EXPECT_THAT(split({{"type", "Digits"}, {"individual_digits", false}}, "a12Ⅷb"),
                ElementsAre("a", "12Ⅷ", "b"));
    EXPECT_THAT(split({{"type", "Whitespace"}}, "it's  é_1 …!"), ElementsAre("it", "'", "s", "é_1", "…!"));
    EXPECT_THAT(split({{"type", "WhitespaceSplit"}}, " a,\u3000b\n"), ElementsAre("a,", "b"));
    EXPECT_THAT(split({{"type", "Punctuation"}}, "a$b。"), ElementsAre("a", "$", "b", "。"));
    EXPECT_THAT(split({{"type", "Punctuation"}, {"behavior", "Contiguous"}}, "a?!b"),
                ElementsAre("a", "?!", "b"));
    EXPECT_THAT(split({{"type", "ByteLevel"}, {"add_prefix_space", false}}, "we're  at 10!\n"),
                ElementsAre("we", "'re", " ", " at", " 10", "!", "\n"));
}

TEST(PreTokenizer, Metaspace) {
    const auto of = [](const char* scheme, bool splits, const std::string& text, bool at_start = true) {
        return split(
            {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", splits}},
            text, at_start);
    };
    EXPECT_THAT(of("always", true, "ab c"), ElementsAre("▁ab", "▁c"));
    EXPECT_THAT(of("always", true, " ab  "), ElementsAre("▁ab", "▁", "▁"));
    EXPECT_THAT(of("never", true, "ab c"), ElementsAre("ab", "▁c"));
    EXPECT_THAT(of("first", false, "ab c"), ElementsAre("▁ab▁c"));
    EXPECT_THAT(of("first", false, "ab c", false), ElementsAre("ab▁c"));
    EXPECT_THAT(split({{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}}, "a b"),
                ElementsAre("a", "_b"));
}

TEST(PreTokenizer, StepsAfterByteLevelSeeTheByteAlphabet) {
    const json steps = {{"type", "Sequence"},
                        {"pretokenizers",
                         {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}},
                          split_json({{"String", "Ġ"}}, "MergedWithNext", false),
                          {{"type", "Digits"}, {"individual_digits", true}}}}};
    EXPECT_THAT(split(steps, "é b12"), ElementsAre("é", " b", "1", "2"));
}

Pieces matches(const std::string& pattern, const std::string& text) {
    RegexScratch scratch;
    Pieces found;
    Pattern(Regex::compile(pattern)).for_each_match(text, scratch, [&](Match m) {
        found.push_back(text.substr(m.begin, m.end - m.begin));
    });
    return found;
}

TEST(Oniguruma, MeansTheSameInPcre2) {
    EXPECT_THAT(matches(R"(\s)", "a\u0085\u180e\u3000"), ElementsAre("\u0085", "\u3000"));
    EXPECT_THAT(matches(R"(\w+)", "e\u0301_² -"), ElementsAre("e\u0301_²"));
    EXPECT_THAT(matches(R"([\w]+)", "a²b"), ElementsAre("a", "b"));
    EXPECT_THAT(matches(R"(\h+)", "fgAF09"), ElementsAre("f", "AF09"));
    EXPECT_THAT(matches(R"(\bab\b)", "ab abc ab\u0301 ab"), ElementsAre("ab", "ab"));
    EXPECT_THAT(matches(R"(^.)", "ab\ncd"), ElementsAre("a", "c"));
    EXPECT_THAT(matches(R"((?m:a.))", "a\nab"), ElementsAre("a\n", "ab"));
    EXPECT_THAT(matches(R"(a.)", "a\nab"), ElementsAre("ab"));
    EXPECT_THAT(matches(R"([a[bc]]+)", "xabcx[]"), ElementsAre("abc"));
    EXPECT_THAT(matches(R"([[:alpha:]]+)", "ab1é"), ElementsAre("ab", "é"));
    EXPECT_THAT(matches(R"([\p{^L}]+)", "a1-b"), ElementsAre("1-"));
    EXPECT_THAT(matches(R"(\p{Letter}+)", "a1é"), ElementsAre("a", "é"));
    EXPECT_THAT(matches(R"(\p{Han}+)", "あ漢、〇"), ElementsAre("漢", "〇"))
        << "the script, not its extensions";
    EXPECT_THAT(matches(R"(\u0061{,2}b)", "aaab"), ElementsAre("aab"));
    EXPECT_THAT(matches("x{y", "x{y"), ElementsAre("x{y"));
    EXPECT_THAT(matches(R"((?i:'S|'K))", "'s'\u017f'\u212a"), ElementsAre("'s", "'\u017f", "'\u212a"));
}

TEST(Oniguruma, RefusesWhatDiffers) {
    for (const char* pattern :
         {R"([a-z&&[^b]])", R"([a[^b]])", R"(\p{N}{1,3}+)", R"(\Qa\E)", R"(\p{Nonsense})", R"(\pL)",
          R"((?~a))", R"((?s:a))", R"([\W])", "[a", R"(\)", R"(\u00)", "(", "(?", "[[:alpha"}) {
        EXPECT_THROW(Regex::compile(pattern), PatternError) << pattern;
    }
}

TEST(Pattern, EmptyMatchesAndCharactersOfSeveralBytes) {
    EXPECT_THAT(matches("x*", "éxx漢"), ElementsAre("", "xx", ""));
    EXPECT_THAT(matches("x*", ""), ElementsAre());
}

TEST(Pattern, RunawayIsAnError) {
    RegexScratch scratch;
    const Regex regex = Regex::compile("(a|aa|aaa)*[bc]");
    EXPECT_THROW(regex.find(std::string(2000, 'a'), 0, scratch), Error);
}

TEST(Pattern, LongRunsOfSpaces) {
    const std::string pattern = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
    const std::string text(size_t{3} << 20, ' ');
    EXPECT_THAT(matches(pattern, text + "x"), ElementsAre(text.substr(1), " "));
}

TEST(NewerCharacters, CountAsTheirCategory) {
    const std::string letter = "\U0001430b";  // Unicode 16
    EXPECT_THAT(matches(R"(\p{L}+)", "a" + letter + "b"), ElementsAre("a" + letter + "b"));
    EXPECT_THAT(matches(R"(\p{N})", "\U0001e5f1"), ElementsAre("\U0001e5f1"));
    EXPECT_THAT(matches(R"(\p{M})", "\u0897"), ElementsAre("\u0897"));
    EXPECT_THAT(matches(R"(\p{Han})", "\U00031350"), ElementsAre("\U00031350"));
    EXPECT_TRUE(utf8::is_word(0x1430b));
    std::string buffer;
    const std::string old = "plain é 漢 😀";
    EXPECT_EQ(with_known_characters(old, buffer).data(), old.data());
    for (char32_t c = 0x80; c < 0x110000; ++c) {
        if (c >= 0xd800 && c < 0xe000) continue;
        ASSERT_EQ(utf8::from_char(known_character(c)).size(), utf8::from_char(c).size())
            << static_cast<uint32_t>(c);
    }
}

TEST(Utf8, LossyReplacesEachMaximalPart) {
    const auto lossy = [](const std::string& bytes) {
        std::string out;
        const size_t taken = utf8::append_lossy(out, bytes);
        return std::pair(out, bytes.size() - taken);
    };
    EXPECT_EQ(lossy("aé"), std::pair(std::string("aé"), size_t{0}));
    EXPECT_EQ(lossy("a\xe6\x97"), std::pair(std::string("a"), size_t{2}));
    EXPECT_EQ(lossy("\xe6\x97z"), std::pair(std::string("\ufffdz"), size_t{0}));
    EXPECT_EQ(lossy("\xff\xc0\x80z"), std::pair(std::string("\ufffd\ufffd\ufffdz"), size_t{0}));
    EXPECT_EQ(lossy("\xf0\x9f\x98"), std::pair(std::string(), size_t{3}));
    EXPECT_EQ(lossy("\xed\xa0"), std::pair(std::string("\ufffd\ufffd"), size_t{0}));
}

std::string decode(const json& decoder, const std::vector<std::string>& tokens) {
    json document = tokenizer_json({});
    std::vector<int32_t> ids;
    for (const std::string& token : tokens) {
        auto& vocab = document["model"]["vocab"];
        if (!vocab.contains(token)) vocab[token] = vocab.size();
        ids.push_back(vocab[token]);
    }
    document["decoder"] = decoder;
    const Tokenizer t = build(document);
    StreamDecoder stream(t, false);
    std::string streamed;
    for (const int32_t id : ids) {
        streamed += stream.push(id);
        EXPECT_TRUE(utf8::is_valid(streamed));
    }
    const std::string held = stream.held();
    EXPECT_EQ(stream.finish(), held);
    EXPECT_EQ(streamed + held, t.decode(ids, false));
    return streamed + held;
}

json sequence(const std::vector<json>& decoders) {
    return {{"type", "Sequence"}, {"decoders", decoders}};
}

TEST(Decoder, EachType) {
    const json fallback = {{"type", "ByteFallback"}};
    const json fuse = {{"type", "Fuse"}};
    const auto strip = [](int start, int stop) {
        return json{{"type", "Strip"}, {"content", " "}, {"start", start}, {"stop", stop}};
    };
    EXPECT_EQ(decode(nullptr, {"a", "b"}), "a b");
    EXPECT_EQ(decode(fallback, {"<0xC3>", "<0xA9>", "a"}), "éa");
    EXPECT_EQ(decode(fallback, {"<0xC3>", "a"}), "\ufffda");
    EXPECT_EQ(decode(fallback, {"<0x0A>", "<0xE6>", "<0x97>"}), "\ufffd\ufffd\ufffd")
        << "a run is text or is not";
    EXPECT_EQ(decode(fallback, {"<0xzz>", "<0x0A"}), "<0xzz><0x0A");
    EXPECT_EQ(decode(strip(1, 0), {"  a", " b"}), " ab");
    EXPECT_EQ(decode(sequence({fuse, strip(1, 1)}), {" ", " ", "a ", "b", " ", " "}), " a b ");
    EXPECT_EQ(decode(strip(1, 1), {" ", "a"}), "a");
    EXPECT_EQ(decode({{"type", "Replace"}, {"pattern", {{"Regex", "▁+"}}}, {"content", " "}}, {"▁▁a", "▁b"}),
              " a b");
    const auto metaspace = [](const char* scheme) {
        return json{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", true}};
    };
    EXPECT_EQ(decode(metaspace("always"), {"▁▁a▁", "▁b"}), "a b");
    EXPECT_EQ(decode(metaspace("never"), {"▁a", "▁b"}), " a b");
    EXPECT_EQ(decode({{"type", "ByteLevel"}}, {"Ġa", "é", "漢"}), std::string(" a\ufffd漢"));
    EXPECT_EQ(decode(sequence({}), {"a", "b"}), "ab");
}

TEST(StreamDecoder, GivesWhatIsSettled) {
    json document = tokenizer_json({"æ", "Ĺ", "¥", "a"});  // e6 97 a5: a character
    document["decoder"] = {{"type", "ByteLevel"}};
    const Tokenizer t = build(document);
    StreamDecoder stream(t, false);
    EXPECT_EQ(stream.push(0), "");
    EXPECT_EQ(stream.push(1), "");
    EXPECT_EQ(stream.held(), "\ufffd");
    EXPECT_EQ(stream.push(2), "日");
    EXPECT_EQ(stream.push(0), "");
    EXPECT_EQ(stream.push(3), "\ufffda");
    EXPECT_EQ(stream.finish(), "");
}

// "▁a" at the beginning of a text, and after a prompt.
TEST(StreamDecoder, ContinuesAPrompt) {
    const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
    const json space = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
    const json fuse = {{"type", "Fuse"}};
    struct Case {
        json decoder;
        const char* alone;
        const char* after;
    };
    const std::vector<Case> cases = {
        {sequence({space, {{"type", "ByteFallback"}}, fuse, strip}), "a a", " a a"},
        {sequence({fuse, space, strip}), "a a", " a a"},
        {sequence({space, strip}), "aa", "aa"},  // of every token, so also of the first
        {{{"type", "Metaspace"}, {"replacement", "▁"}}, "a a", " a a"},
        {nullptr, "▁a ▁a", " ▁a ▁a"},
    };
    for (const Case& c : cases) {
        json document = tokenizer_json({"▁a"});
        document["decoder"] = c.decoder;
        const Tokenizer t = build(document);
        for (const bool continues : {false, true}) {
            StreamDecoder stream(t, false, continues);
            std::string text = stream.push(0);
            text += stream.push(0);
            text += stream.finish();
            EXPECT_EQ(text, continues ? c.after : c.alone) << c.decoder;
        }
    }
}

TEST(StreamDecoder, RandomTokens) {
    std::mt19937 random(5);
    const std::vector<std::string> tokens = {"<0xE6>", "<0x97>", "<0xA5>", "<0x0A>", " ", "▁",
                                             "a",      "▁b",     "æ",      "Ĺ",      "¥"};
    const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 2}, {"stop", 1}};
    const json space = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
    const std::vector<json> decoders = {
        {{"type", "ByteLevel"}},
        sequence({space, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}),
        sequence({{{"type", "Fuse"}}, space, strip}),
        sequence({strip, {{"type", "Metaspace"}, {"replacement", "▁"}}}),
    };
    for (int i = 0; i < 300; ++i) {
        std::vector<std::string> text(random() % 12);
        for (std::string& token : text)
            token = tokens[random() % tokens.size()];
        decode(decoders[static_cast<size_t>(i) % decoders.size()], text);
    }
}

}  // namespace
}  // namespace mixserve::text
