// Damaged tokenizer.json files: whatever is in them, loading and using them ends in ids, text, or a
// mixserve::Error.
#include <gtest/gtest.h>

#include <iterator>
#include <random>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_builder.h"

namespace mixserve::text {
namespace {

constexpr int n_mutants = 3000;
constexpr const char* probe = "ab <s>  It's 12٣ é漢😀\n\t<0x0A>▁ x";

json metaspace() {
    return {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", true}};
}

json sentencepiece_seed() {
    json seed = test::tokenizer_json({"<unk>", "a", "b", "▁", "ab", "▁a", "<0x0A>", "<0xC3>", "<0xA9>", "x"},
                                     {"a b", "▁ a"});
    seed["model"].update({{"unk_token", "<unk>"}, {"byte_fallback", true}, {"fuse_unk", true}});
    seed["added_tokens"] = {test::added_token(10, "<s>", {{"lstrip", true}, {"rstrip", true}}),
                            test::added_token(11, "It", {{"single_word", true}, {"normalized", true}})};
    seed["normalizer"] = {{"type", "Sequence"},
                          {"normalizers",
                           {{{"type", "NFC"}},
                            {{"type", "Prepend"}, {"prepend", "▁"}},
                            {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}},
                            {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}}}};
    seed["pre_tokenizer"] = metaspace();
    seed["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", json::array()},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {10}}, {"tokens", {"<s>"}}}}}}};
    seed["decoder"] = {{"type", "Sequence"},
                       {"decoders",
                        {{{"type", "Replace"}, {"pattern", {{"Regex", "▁+"}}}, {"content", " "}},
                         {{"type", "ByteFallback"}},
                         {{"type", "Fuse"}},
                         {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 1}},
                         metaspace()}}};
    return seed;
}

json byte_level_seed() {
    const auto& alphabet = byte_alphabet::characters();
    json seed = test::tokenizer_json({alphabet.begin(), alphabet.end()});
    seed["model"]["ignore_merges"] = true;
    seed["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"},
           {"pattern",
            {{"Regex",
              R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|[a[\w\h]]+\b|\s+(?!\S)|\u0061{,2})"}}},
           {"behavior", "MergedWithNext"},
           {"invert", false}},
          {{"type", "Digits"}, {"individual_digits", true}},
          {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}},
          {{"type", "Punctuation"}, {"behavior", "Contiguous"}}}}};
    seed["decoder"] = {{"type", "ByteLevel"}};
    return seed;
}

class Mutator {
  public:
    explicit Mutator(unsigned seed) : random_(seed) {}

    /// Changes bytes of the text: exchanged, inserted, removed, or a stretch copied elsewhere.
    std::string mutate_bytes(std::string text) {
        for (size_t n = 1 + below(4); n > 0 && !text.empty(); --n) {
            const size_t at = below(text.size());
            switch (below(4)) {
                case 0:
                    text[at] = random_byte();
                    break;
                case 1:
                    text.insert(at, 1, random_byte());
                    break;
                case 2:
                    text.erase(at, 1 + below(8));
                    break;
                default:
                    text.insert(at, text.substr(below(text.size()), below(24)));
            }
        }
        return text;
    }

    /// Changes a value somewhere in the tree: another value from the tree, a constant, or none.
    json mutate_tree(json document) {
        const json flat = document.flatten();
        for (size_t n = 1 + below(3); n > 0; --n) {
            json value = below(2) == 0 ? constants()[below(constants().size())] : pick(flat).value();
            if (value.is_string() && below(3) == 0) value = mutate_bytes(value.get<std::string>());
            try {
                document.at(json::json_pointer(pick(flat).key())) = std::move(value);
            } catch (const json::exception&) {  // an earlier change took the place away
            }
        }
        return document;
    }

    size_t below(size_t n) { return random_() % n; }

  private:
    static const std::vector<json>& constants() {
        static const std::vector<json> values = {nullptr,
                                                 true,
                                                 -1,
                                                 0,
                                                 1 << 22,
                                                 uint64_t{1} << 63,
                                                 1.5,
                                                 "",
                                                 "a",
                                                 "\u2581",
                                                 "(a+)+b",
                                                 "[a-z&&[b]]",
                                                 "Sequence",
                                                 "NFKD",
                                                 "ByteLevel",
                                                 "Fuse",
                                                 "Isolated",
                                                 json::object(),
                                                 json::array({1, "a"}),
                                                 json{{"type", "Sequence"}}};
        return values;
    }
    json::const_iterator pick(const json& flat) {
        return std::next(flat.begin(), static_cast<ptrdiff_t>(below(flat.size())));
    }
    char random_byte() {
        constexpr std::string_view likely = "\"\\{}[],:0123456789-+*?(|)^$aul\xff\xc3 ";
        return below(4) == 0 ? static_cast<char>(below(256)) : likely[below(likely.size())];
    }

    std::mt19937 random_;
};

/// Whether the file could be loaded.
bool use(const std::string& document) {
    try {
        const Tokenizer t = Tokenizer::from_json(document);
        for (const bool special : {true, false}) {
            const std::vector<int32_t> ids = t.encode(probe, special);
            StreamDecoder stream(t, special);
            std::string text;
            for (const int32_t id : ids)
                text += stream.push(id);
            text += stream.held();
            EXPECT_EQ(text, t.decode(ids, special));
        }
        return true;
    } catch (const Error&) {
        return false;
    }
}

void fuzz(const json& seed, unsigned random_seed) {
    const std::string text = seed.dump();
    ASSERT_TRUE(use(text));
    Mutator mutator(random_seed);
    int n_loaded = 0;
    for (int i = 0; i < n_mutants; ++i) {
        const std::string mutant =
            i % 2 == 0 ? mutator.mutate_bytes(text)
                       : mutator.mutate_tree(seed).dump(-1, ' ', false, json::error_handler_t::replace);
        try {
            n_loaded += use(mutant) ? 1 : 0;
        } catch (const std::exception& e) {
            FAIL() << e.what() << "\n" << mutant;
        }
    }
    EXPECT_GT(n_loaded, n_mutants / 50) << "mutants are too wild to reach what comes after loading";
    EXPECT_LT(n_loaded, n_mutants) << "mutants are too tame";
}

TEST(FuzzTokenizer, SentencePieceStyle) {
    fuzz(sentencepiece_seed(), 1);
}
TEST(FuzzTokenizer, ByteLevel) {
    fuzz(byte_level_seed(), 2);
}

}  // namespace
}  // namespace mixserve::text
