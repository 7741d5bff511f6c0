#include "io/id_set.h"

#include <xxhash.h>

#include <algorithm>

namespace mixserve::io {

size_t IdSet::place_of(uint64_t low, uint64_t high) const {
    const uint64_t mask = slots_.size() - 1;
    uint64_t i = low & mask;
    while (!slots_[i].free() && (slots_[i].low != low || slots_[i].high != high))
        i = (i + 1) & mask;
    return i;
}

const IdSet::Slot* IdSet::find(std::string_view id) const {
    if (slots_.empty()) return nullptr;
    const XXH128_hash_t hash = XXH3_128bits(id.data(), id.size());
    const Slot& slot = slots_[place_of(hash.low64, hash.high64)];
    return slot.free() ? nullptr : &slot;
}

// The caller fills a free slot.
IdSet::Slot& IdSet::find_or_add(std::string_view id) {
    if (static_cast<size_t>(n_used_) * 4 >= slots_.size() * 3) grow();
    const XXH128_hash_t hash = XXH3_128bits(id.data(), id.size());
    Slot& slot = slots_[place_of(hash.low64, hash.high64)];
    if (slot.free()) {
        slot.low = hash.low64;
        slot.high = hash.high64;
        ++n_used_;
    }
    return slot;
}

void IdSet::grow() {
    std::vector<Slot> old(std::max<size_t>(1024, slots_.size() * 2));
    old.swap(slots_);
    for (const Slot& slot : old) {
        if (!slot.free()) slots_[place_of(slot.low, slot.high)] = slot;
    }
}

std::optional<int64_t> IdSet::add(std::string_view id, int64_t line) {
    Slot& slot = find_or_add(id);
    if (slot.line() != 0) return slot.line();
    slot.twice_line += 2 * line;
    return std::nullopt;
}

bool IdSet::add_row(std::string_view id) {
    Slot& slot = find_or_add(id);
    if (slot.has_row()) return false;
    ++slot.twice_line;
    return true;
}

std::optional<int64_t> IdSet::line_of(std::string_view id) const {
    const Slot* slot = find(id);
    return slot == nullptr || slot->line() == 0 ? std::nullopt : std::optional(slot->line());
}

bool IdSet::has_row(std::string_view id) const {
    const Slot* slot = find(id);
    return slot != nullptr && slot->has_row();
}

}  // namespace mixserve::io
