#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace mixserve::text {

/// The ids of short words seen lately, in 2 MiB. A newer word takes the place of an older one with the same
/// slot. Belongs to one thread at a time.
class WordCache {
  public:
    static constexpr size_t max_word_bytes = 30;
    static constexpr size_t max_ids = 8;

    /// The word's ids; empty when it is not there.
    std::span<const int32_t> find(std::string_view word) const {
        if (word.size() > max_word_bytes) return {};
        const Entry& entry = entries_[slot_of(word)];
        if (entry.n_bytes != word.size() || std::memcmp(entry.bytes.data(), word.data(), word.size()) != 0)
            return {};
        return {entry.ids.data(), entry.n_ids};
    }

    /// A word or list of ids that is too long is not kept.
    void keep(std::string_view word, std::span<const int32_t> ids) {
        if (word.empty() || word.size() > max_word_bytes || ids.size() > max_ids) return;
        Entry& entry = entries_[slot_of(word)];
        entry.n_bytes = static_cast<uint8_t>(word.size());
        entry.n_ids = static_cast<uint8_t>(ids.size());
        std::memcpy(entry.bytes.data(), word.data(), word.size());
        std::copy(ids.begin(), ids.end(), entry.ids.begin());
    }

  private:
    struct alignas(64) Entry {
        uint8_t n_bytes = 0;  // 0: free
        uint8_t n_ids = 0;
        std::array<char, max_word_bytes> bytes{};
        std::array<int32_t, max_ids> ids{};
    };
    static constexpr size_t n_entries = size_t{1} << 15;

    static size_t slot_of(std::string_view word);

    std::vector<Entry> entries_{n_entries};
};

}  // namespace mixserve::text
