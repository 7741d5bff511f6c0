#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace mixserve::io {

/// The ids seen so far, as 128-bit hashes (XXH3) with their lines: 24 bytes an entry, ten million in 400 MB.
/// Two ids with one hash would need about 2^64 of them.
class IdSet {
  public:
    /// The line (from 1) where `id` was added before; else adds it.
    std::optional<int64_t> add(std::string_view id, int64_t line);
    int64_t size() const { return n_used_; }
    int64_t memory_bytes() const { return static_cast<int64_t>(slots_.capacity() * sizeof(Slot)); }

  private:
    struct Slot {
        uint64_t low = 0;
        uint64_t high = 0;
        int64_t line = 0;  // 0: free
    };
    Slot& find(uint64_t low, uint64_t high);
    void grow();

    std::vector<Slot> slots_;  // a power of two; open addressing
    int64_t n_used_ = 0;
};

}  // namespace mixserve::io
