#include "text/merge_table.h"

#include <bit>

namespace mixserve::text {

MergeTable::MergeTable(size_t n_merges)
    : slots_(std::bit_ceil(n_merges + n_merges / 2 + 2)),
      mask_(slots_.size() - 1),
      shift_(64 - std::countr_zero(slots_.size())) {}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
    const uint64_t key = key_of(left, right);
    size_t i = slot_of(key);
    while (slots_[i].key != key && slots_[i].key != empty_key)
        i = (i + 1) & mask_;
    slots_[i] = {key, merge};
}

}  // namespace mixserve::text
