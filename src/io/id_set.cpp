#include "io/id_set.h"

#include <xxhash.h>

#include <algorithm>

namespace mixserve::io {

IdSet::Slot& IdSet::find(uint64_t low, uint64_t high) {
    const uint64_t mask = slots_.size() - 1;
    uint64_t i = low & mask;
    while (slots_[i].line != 0 && (slots_[i].low != low || slots_[i].high != high))
        i = (i + 1) & mask;
    return slots_[i];
}

void IdSet::grow() {
    std::vector<Slot> old(std::max<size_t>(1024, slots_.size() * 2));
    old.swap(slots_);
    for (const Slot& slot : old) {
        if (slot.line != 0) find(slot.low, slot.high) = slot;
    }
}

std::optional<int64_t> IdSet::add(std::string_view id, int64_t line) {
    if (static_cast<size_t>(n_used_) * 4 >= slots_.size() * 3) grow();
    const XXH128_hash_t hash = XXH3_128bits(id.data(), id.size());
    Slot& slot = find(hash.low64, hash.high64);
    if (slot.line != 0) return slot.line;
    slot = {hash.low64, hash.high64, line};
    ++n_used_;
    return std::nullopt;
}

}  // namespace mixserve::io
