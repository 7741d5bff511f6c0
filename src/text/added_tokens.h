#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/function_ref.h"
#include "text/json_node.h"
#include "text/normalizer.h"

namespace mixserve::text {

/// An entry of `added_tokens`: found in the text before anything else is done to it.
struct AddedToken {
    int32_t id = -1;
    std::string content;
    bool single_word = false;  // not inside a word
    bool lstrip = false;       // takes the white space before it along
    bool rstrip = false;       // and behind it
    bool normalized = false;   // looked for in the normalized text
    bool special = false;
};

/// Finds a set of strings: the leftmost match, and of those the longest.
class TokenTrie {
  public:
    TokenTrie();
    /// The first of equal contents stays. Empty ones are left out.
    void add(std::string_view content, const AddedToken* token);
    bool empty() const { return nodes_.size() == 1; }

    struct Found {
        size_t begin;
        size_t end;
        const AddedToken* token;
    };
    /// The first match that begins at or after `from`.
    std::optional<Found> find(std::string_view text, size_t from) const;

  private:
    struct Node {
        std::vector<std::pair<char, int32_t>> children;
        const AddedToken* token = nullptr;
    };
    const Node* child(const Node& node, char byte) const;

    std::vector<Node> nodes_;
    std::array<bool, 256> starts_{};  // the bytes that some token begins with
};

/// The added tokens of a tokenizer. Const and safe to share.
class AddedTokens {
  public:
    /// `node`: the array, or nothing. UsageError names what is wrong.
    static AddedTokens from_json(const std::optional<JsonNode>& node, const Normalizer& normalizer);
    AddedTokens(AddedTokens&&) = default;
    AddedTokens& operator=(AddedTokens&&) = default;

    const std::vector<AddedToken>& tokens() const { return tokens_; }

    /// A piece of the text: an added token, or plain text (token: nullptr; never empty).
    using Visit = FunctionRef<void(std::string_view piece, const AddedToken* token)>;
    /// Cuts a text at the tokens that are looked for before normalization (`normalized`: in the normalized
    /// text).
    void split(std::string_view text, bool normalized, Visit visit) const;

  private:
    AddedTokens() = default;

    std::vector<AddedToken> tokens_;  // the tries point into it
    TokenTrie raw_;
    TokenTrie normalized_;
};

}  // namespace mixserve::text
