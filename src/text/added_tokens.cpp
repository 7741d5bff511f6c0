#include "text/added_tokens.h"

#include <algorithm>

#include "text/bpe.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

AddedToken token_of(const JsonNode& node) {
    node.allow_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    const int64_t id = node.at("id").integer();
    if (id < 0 || id >= max_vocab_size)
        node.at("id").refuse("must be from 0 to {}, is {}", max_vocab_size - 1, id);
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = node.string("content");
    token.special = node.boolean("special", false);
    token.single_word = node.boolean("single_word", false);
    token.lstrip = node.boolean("lstrip", false);
    token.rstrip = node.boolean("rstrip", false);
    token.normalized = node.boolean("normalized", !token.special);
    return token;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
    size_t before = begin;
    size_t after = end;
    return (begin == 0 || !utf8::is_word(utf8::previous(text, before))) &&
           (end == text.size() || !utf8::is_word(utf8::next(text, after)));
}

size_t space_before(std::string_view text, size_t begin) {
    while (begin > 0) {
        size_t at = begin;
        if (!utf8::is_white_space(utf8::previous(text, at))) break;
        begin = at;
    }
    return begin;
}

size_t space_behind(std::string_view text, size_t end) {
    while (end < text.size()) {
        size_t at = end;
        if (!utf8::is_white_space(utf8::next(text, at))) break;
        end = at;
    }
    return end;
}

}  // namespace

TokenTrie::TokenTrie() : nodes_(1) {}

const TokenTrie::Node* TokenTrie::child(const Node& node, char byte) const {
    for (const auto& [label, index] : node.children) {
        if (label == byte) return &nodes_[static_cast<size_t>(index)];
    }
    return nullptr;
}

void TokenTrie::add(std::string_view content, const AddedToken* token) {
    if (content.empty()) return;
    starts_[static_cast<unsigned char>(content[0])] = true;
    size_t at = 0;
    for (const char byte : content) {
        if (const Node* next = child(nodes_[at], byte)) {
            at = static_cast<size_t>(next - nodes_.data());
            continue;
        }
        nodes_[at].children.emplace_back(byte, static_cast<int32_t>(nodes_.size()));
        at = nodes_.size();
        nodes_.emplace_back();
    }
    if (!nodes_[at].token) nodes_[at].token = token;
}

std::optional<TokenTrie::Found> TokenTrie::find(std::string_view text, size_t from) const {
    if (empty()) return std::nullopt;
    for (size_t begin = from; begin < text.size(); ++begin) {
        if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
        std::optional<Found> longest;
        const Node* node = &nodes_[0];
        for (size_t end = begin; end < text.size();) {
            node = child(*node, text[end]);
            if (!node) break;
            ++end;
            if (node->token) longest = Found{begin, end, node->token};
        }
        if (longest) return longest;
    }
    return std::nullopt;
}

AddedTokens AddedTokens::from_json(const std::optional<JsonNode>& node, const Normalizer& normalizer) {
    AddedTokens added;
    if (!node) return added;
    for (const JsonNode& entry : node->elements())
        added.tokens_.push_back(token_of(entry));
    RegexScratch scratch;
    for (const bool special : {true, false}) {
        for (const AddedToken& token : added.tokens_) {
            if (token.special != special) continue;
            if (token.normalized) {
                added.normalized_.add(normalizer.apply(token.content, scratch), &token);
            } else {
                added.raw_.add(token.content, &token);
            }
        }
    }
    return added;
}

void AddedTokens::split(std::string_view text, bool normalized, Visit visit) const {
    const TokenTrie& trie = normalized ? normalized_ : raw_;
    size_t done = 0;
    size_t from = 0;
    while (const std::optional<TokenTrie::Found> found = trie.find(text, from)) {
        from = found->end;
        const AddedToken& token = *found->token;
        if (token.single_word && !stands_alone(text, found->begin, found->end)) continue;
        const size_t begin = token.lstrip ? std::max(space_before(text, found->begin), done) : found->begin;
        const size_t end = token.rstrip ? space_behind(text, found->end) : found->end;
        if (done < begin) visit(text.substr(done, begin - done), nullptr);
        if (begin < end)
            visit(text.substr(begin, end - begin), &token);  // else the white space of the one before
        done = std::max(done, end);
    }
    if (done < text.size()) visit(text.substr(done), nullptr);
}

}  // namespace mixserve::text
