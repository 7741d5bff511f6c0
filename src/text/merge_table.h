#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mixserve::text {

/// What two neighbouring tokens become. The lowest rank goes first.
struct Merge {
    uint32_t rank = none;
    int32_t id = -1;
    static constexpr uint32_t none = UINT32_MAX;
    bool exists() const { return rank != none; }
};

/// (left, right) -> Merge; open addressing with linear probing.
class MergeTable {
  public:
    explicit MergeTable(size_t n_merges = 0);

    /// At most n_merges different pairs. A pair that is there is overwritten.
    void set(int32_t left, int32_t right, Merge merge);

    Merge find(int32_t left, int32_t right) const {
        const uint64_t key = key_of(left, right);
        for (size_t i = slot_of(key);; i = (i + 1) & mask_) {
            const Slot& slot = slots_[i];
            if (slot.key == key) return slot.merge;
            if (slot.key == empty_key) return {};
        }
    }

  private:
    struct Slot {
        uint64_t key = empty_key;
        Merge merge;
    };
    static constexpr uint64_t empty_key = UINT64_MAX;  // ids are never negative

    static uint64_t key_of(int32_t left, int32_t right) {
        return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
    }
    /// Fibonacci hashing (Knuth, TAOCP 6.4).
    size_t slot_of(uint64_t key) const { return static_cast<size_t>((key * 0x9e3779b97f4a7c15U) >> shift_); }

    std::vector<Slot> slots_;  // a power of two
    size_t mask_;
    int shift_;  // 64 - log2(size)
};

}  // namespace mixserve::text
