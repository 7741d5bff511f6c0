#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace mixserve::test {

/// A tokenizer.json with a vocabulary of these tokens (ids in order) and merges, and nothing else.
inline json tokenizer_json(const std::vector<std::string>& tokens,
                           const std::vector<std::string>& merges = {}) {
    json vocab = json::object();
    for (size_t i = 0; i < tokens.size(); ++i)
        vocab[tokens[i]] = i;
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", json::array()},
            {"normalizer", nullptr},
            {"pre_tokenizer", nullptr},
            {"post_processor", nullptr},
            {"decoder", nullptr},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", false},
              {"vocab", vocab},
              {"merges", merges}}}};
}

inline json added_token(int id, const std::string& content, const json& flags = json::object()) {
    json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                  {"rstrip", false}, {"normalized", false}, {"special", true}};
    token.update(flags);
    return token;
}

inline text::Tokenizer build(const json& document) {
    return text::Tokenizer::from_json(document.dump());
}

/// The tokens' texts.
inline std::vector<std::string> tokens_of(const text::Tokenizer& tokenizer, std::string_view text) {
    std::vector<std::string> tokens;
    for (const int32_t id : tokenizer.encode(text, true))
        tokens.push_back(*tokenizer.id_to_token(id));
    return tokens;
}

}  // namespace mixserve::test
