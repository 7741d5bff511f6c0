#include "text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace mixserve::text {
namespace {

constexpr std::string_view metaspace = "\xe2\x96\x81";  // U+2581
constexpr size_t max_short_symbols = 48;
constexpr int32_t gone = -1;

/// A character that is no metaspace stands before a metaspace.
bool metaspace_inside(std::string_view text) {
    size_t at = 0;
    while (text.substr(at).starts_with(metaspace))
        at += metaspace.size();
    return text.find(metaspace, at) != std::string_view::npos;
}

/// Left and right part of a merge, which is "a b" or ["a", "b"].
std::pair<std::string, std::string> parts_of(const JsonNode& merges, size_t i) {
    const json& entry = merges.value()[i];
    if (entry.is_string()) {
        const auto& text = entry.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
            return {text.substr(0, space), text.substr(space + 1)};
        }
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
        return {entry[0].get<std::string>(), entry[1].get<std::string>()};
    }
    merges.refuse("merge {} must be \"left right\" or [\"left\", \"right\"]", i);
}

}  // namespace

Bpe Bpe::from_json(const JsonNode& model, bool byte_level) {
    const std::optional<JsonNode> type = model.find("type");
    if (type && type->string() != "BPE")
        type->refuse("model type '{}' is not supported, only BPE", type->string());
    model.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                      "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
    const std::optional<JsonNode> dropout = model.find("dropout");
    if (dropout && dropout->value() != 0) dropout->refuse("must be null or 0: dropout is for training");
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        const std::optional<JsonNode> affix = model.find(key);
        if (affix && !affix->string().empty()) affix->refuse("'{}' is not supported", affix->string());
    }
    Bpe bpe;
    bpe.byte_level_ = byte_level;
    bpe.ignore_merges_ = model.boolean("ignore_merges", false);
    bpe.fuse_unknown_ = model.boolean("fuse_unk", false);
    bpe.byte_fallback_ = model.boolean("byte_fallback", false);
    bpe.read_vocab(model.at("vocab"));
    const bool apart = bpe.read_merges(model.at("merges"));
    bpe.cut_at_metaspace_ =
        apart && !byte_level && !bpe.ignore_merges_ && bpe.id_of(std::string(metaspace)) != gone;
    if (const std::optional<JsonNode> unknown = model.find("unk_token")) {
        bpe.unknown_token_ = unknown->string();
        bpe.unknown_id_ = bpe.id_of(unknown->string());
    }
    bpe.index_symbols();
    return bpe;
}

void Bpe::read_vocab(const JsonNode& node) {
    if (!node.value().is_object()) node.refuse("must be an object");
    vocab_.reserve(node.value().size());
    for (const auto& [token, id] : node.value().items()) {
        const bool ok = id.is_number_unsigned() && id.get<uint64_t>() < uint64_t{max_vocab_size};
        if (!ok)
            node.refuse("the id of token '{}' must be an integer from 0 to {}", token, max_vocab_size - 1);
        vocab_.emplace(token, id.get<int32_t>());
    }
}

bool Bpe::read_merges(const JsonNode& node) {
    if (!node.value().is_array()) node.refuse("must be an array");
    const size_t n_merges = node.value().size();
    merges_ = MergeTable(n_merges);
    bool apart = true;
    for (size_t i = 0; i < n_merges; ++i) {
        const auto [left, right] = parts_of(node, i);
        const std::string joined = left + right;
        for (const std::string* token : {&left, &right, &joined}) {
            if (id_of(*token) == gone)
                node.refuse("merge {} needs token '{}', which is not in the vocab", i, *token);
        }
        merges_.set(id_of(left), id_of(right), Merge{static_cast<uint32_t>(i), id_of(joined)});
        apart = apart && !metaspace_inside(joined);
    }
    return apart;
}

void Bpe::index_symbols() {
    for (size_t byte = 0; byte < 256; ++byte) {
        fallback_ids_[byte] = id_of(fmt::format("<0x{:02X}>", byte));
        byte_ids_[byte] = gone;
        if (byte_level_) {
            byte_ids_[byte] = id_of(byte_alphabet::characters()[byte]);
        } else if (byte < 0x80) {
            byte_ids_[byte] = id_of(std::string(1, static_cast<char>(byte)));
        }
    }
    for (const auto& [token, id] : vocab_) {
        if (ignore_merges_) {
            const std::optional<std::string> bytes = byte_level_ ? byte_alphabet::bytes_of(token) : token;
            if (bytes) whole_words_.emplace(*bytes, id);
        }
        const bool wide = !byte_level_ && !token.empty() && utf8::length(token[0]) > 1;
        if (wide && utf8::length(token[0]) == token.size()) {
            size_t pos = 0;
            wide_ids_.emplace(utf8::next(token, pos), id);
        }
    }
}

int32_t Bpe::id_of(const std::string& token) const {
    const auto it = vocab_.find(token);
    return it == vocab_.end() ? gone : it->second;
}

void Bpe::encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const {
    require(word.size() < size_t{INT32_MAX}, "tokenizer: a word of {} bytes is too long", word.size());
    if (!cut_at_metaspace_) {
        encode_part(word, scratch, ids);
        return;
    }
    size_t begin = 0;
    size_t at = 0;
    while (begin < word.size()) {
        while (word.substr(at).starts_with(metaspace))
            at += metaspace.size();
        const size_t end = std::min(word.find(metaspace, at), word.size());
        encode_part(word.substr(begin, end - begin), scratch, ids);
        begin = at = end;
    }
}

void Bpe::encode_part(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& ids) const {
    if (const std::span<const int32_t> known = scratch.cache.find(part); !known.empty()) {
        ids.insert(ids.end(), known.begin(), known.end());
        return;
    }
    scratch.ids.clear();
    const auto whole = ignore_merges_ ? whole_words_.find(std::string(part)) : whole_words_.end();
    if (whole != whole_words_.end()) {
        scratch.ids.push_back(whole->second);
    } else {
        split_symbols(part, scratch.ids);
        if (scratch.ids.size() <= max_short_symbols) {
            merge_short(scratch);
        } else {
            merge_long(scratch.ids);
        }
    }
    scratch.cache.keep(part, scratch.ids);
    ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
}

int32_t Bpe::character_id(char32_t c) const {
    if (c < 0x80) return byte_ids_[c];
    const auto it = wide_ids_.find(c);
    return it == wide_ids_.end() ? gone : it->second;
}

bool Bpe::append_fallback(std::string_view character, std::vector<int32_t>& ids) const {
    if (!byte_fallback_) return false;
    const auto id = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(character.begin(), character.end(), [&](char byte) { return id(byte) == gone; }))
        return false;
    for (const char byte : character)
        ids.push_back(id(byte));
    return true;
}

void Bpe::split_symbols(std::string_view part, std::vector<int32_t>& ids) const {
    bool unknown = false;  // one that is not written yet: more may be joined to it
    const auto write_unknown = [&] {
        require(unknown_id_ != gone,
                "tokenizer.json: model.unk_token '{}' is needed, and is not in the vocab", *unknown_token_);
        ids.push_back(unknown_id_);
    };
    for (size_t pos = 0; pos < part.size();) {
        const size_t start = pos;
        int32_t id = gone;
        std::string_view character;
        if (byte_level_) {
            const auto byte = static_cast<unsigned char>(part[pos++]);
            id = byte_ids_[byte];
            character = byte_alphabet::characters()[byte];
        } else {
            id = character_id(utf8::next(part, pos));
            character = part.substr(start, pos - start);
        }
        if (id != gone) {
            if (unknown) write_unknown();
            unknown = false;
            ids.push_back(id);
        } else if (!append_fallback(character, ids) && unknown_token_) {
            if (unknown && !fuse_unknown_) write_unknown();
            unknown = true;
        }
    }
    if (unknown) write_unknown();
}

void Bpe::merge_short(BpeScratch& scratch) const {
    std::vector<int32_t>& ids = scratch.ids;
    std::vector<Merge>& merges = scratch.merges;
    merges.clear();
    for (size_t i = 0; i + 1 < ids.size(); ++i)
        merges.push_back(merges_.find(ids[i], ids[i + 1]));
    while (!merges.empty()) {
        const auto best = std::min_element(merges.begin(), merges.end(),
                                           [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
        if (!best->exists()) return;
        const auto i = static_cast<size_t>(best - merges.begin());
        ids[i] = best->id;
        ids.erase(ids.begin() + static_cast<ptrdiff_t>(i) + 1);
        merges.erase(best);
        if (i > 0) merges[i - 1] = merges_.find(ids[i - 1], ids[i]);
        if (i < merges.size()) merges[i] = merges_.find(ids[i], ids[i + 1]);
    }
}

void Bpe::merge_long(std::vector<int32_t>& ids) const {
    const auto n = static_cast<int32_t>(ids.size());
    std::vector<Merge> merges(ids.size());  // of each id with the next that is left
    std::vector<int32_t> previous(ids.size());
    std::vector<int32_t> next(ids.size());
    std::vector<uint64_t> candidates;  // rank, then position
    const auto candidate = [](const Merge& merge, int32_t at) {
        return uint64_t{merge.rank} << 32 | static_cast<uint32_t>(at);
    };
    for (int32_t i = 0; i < n; ++i) {
        previous[i] = i - 1;
        next[i] = i + 1;
        if (i + 1 < n) merges[i] = merges_.find(ids[i], ids[i + 1]);
        if (merges[i].exists()) candidates.push_back(candidate(merges[i], i));
    }
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue(std::greater<>{},
                                                                               std::move(candidates));
    const auto renew = [&](int32_t at) {
        Merge& merge = merges[at];
        merge = next[at] < n ? merges_.find(ids[at], ids[next[at]]) : Merge{};
        if (merge.exists()) queue.push(candidate(merge, at));
    };
    while (!queue.empty()) {
        const uint64_t top = queue.top();
        queue.pop();
        const auto at = static_cast<int32_t>(top & UINT32_MAX);
        if (ids[at] == gone || merges[at].rank != top >> 32) continue;
        const int32_t taken = next[at];
        ids[at] = merges[at].id;
        ids[taken] = gone;
        next[at] = next[taken];
        if (next[at] < n) previous[next[at]] = at;
        renew(at);
        if (previous[at] >= 0) renew(previous[at]);
    }
    std::erase(ids, gone);
}

}  // namespace mixserve::text
