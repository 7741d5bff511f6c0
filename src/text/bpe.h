#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/json_node.h"
#include "text/merge_table.h"
#include "text/word_cache.h"

namespace mixserve::text {

/// Ids are smaller: no published vocabulary comes near.
inline constexpr int32_t max_vocab_size = 1 << 22;

/// What a thread needs to encode words.
struct BpeScratch {
    WordCache cache;
    std::vector<int32_t> ids;   // of the current word
    std::vector<Merge> merges;  // of each id with the next
};

/// Byte-pair encoding (Sennrich et al., arXiv 1508.07909) as the BPE model of tokenizer.json has it. Const
/// and safe to share; a scratch is not.
class Bpe {
  public:
    /// `byte_level`: words are bytes, and the vocabulary is written in the byte alphabet. Else they are
    /// characters. UsageError names what is wrong or not supported.
    static Bpe from_json(const JsonNode& model, bool byte_level);

    /// Appends the ids of a word.
    void encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const;

    /// As the file writes them.
    const std::unordered_map<std::string, int32_t>& vocab() const { return vocab_; }

  private:
    void read_vocab(const JsonNode& node);
    /// False: a merge goes over the start of a run of metaspaces.
    bool read_merges(const JsonNode& node);
    void index_symbols();
    void encode_part(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& ids) const;
    /// The tokens of single bytes or characters.
    void split_symbols(std::string_view part, std::vector<int32_t>& ids) const;
    /// Both merge the pair of lowest rank, of those the leftmost, until none is left: by looking at all
    /// pairs, and with a queue in O(n log n).
    void merge_short(BpeScratch& scratch) const;
    void merge_long(std::vector<int32_t>& ids) const;
    int32_t character_id(char32_t c) const;
    bool append_fallback(std::string_view character, std::vector<int32_t>& ids) const;
    int32_t id_of(const std::string& token) const;

    std::unordered_map<std::string, int32_t> vocab_;
    std::unordered_map<std::string, int32_t> whole_words_;  // with ignore_merges: as bytes
    MergeTable merges_;
    bool byte_level_ = false;
    bool ignore_merges_ = false;
    bool fuse_unknown_ = false;
    bool cut_at_metaspace_ = false;
    std::optional<std::string> unknown_token_;
    int32_t unknown_id_ = -1;
    std::array<int32_t, 256> byte_ids_{};  // byte level: of each byte. Else: of ASCII characters. -1: none
    std::unordered_map<char32_t, int32_t> wide_ids_;  // of other characters
    bool byte_fallback_ = false;
    std::array<int32_t, 256> fallback_ids_{};  // <0x00> and so on; -1: none
};

}  // namespace mixserve::text
