#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace mixserve::io {

/// The ids of a job, as 128-bit hashes (XXH3), each with the line of input that has it and whether it has a
/// row of output: 24 bytes an entry, ten million in 400 MB. Two ids with one hash would need about 2^64 of
/// them.
class IdSet {
  public:
    /// The line (from 1) where `id` was added before; else adds it.
    std::optional<int64_t> add(std::string_view id, int64_t line);
    /// Notes that `id` has a row. False where it had one already.
    bool add_row(std::string_view id);

    /// The line that `id` was added with.
    std::optional<int64_t> line_of(std::string_view id) const;
    bool has_row(std::string_view id) const;

    int64_t size() const { return n_used_; }
    int64_t memory_bytes() const { return static_cast<int64_t>(slots_.capacity() * sizeof(Slot)); }

  private:
    struct Slot {
        uint64_t low = 0;
        uint64_t high = 0;
        int64_t twice_line = 0;  // plus 1 with a row; line 0: none
        bool free() const { return twice_line == 0; }
        int64_t line() const { return twice_line / 2; }
        bool has_row() const { return twice_line % 2 != 0; }
    };
    static_assert(sizeof(Slot) == 24);

    /// The slot of `id`, or the free one where it belongs.
    size_t place_of(uint64_t low, uint64_t high) const;
    const Slot* find(std::string_view id) const;
    Slot& find_or_add(std::string_view id);
    void grow();

    std::vector<Slot> slots_;  // a power of two; open addressing
    int64_t n_used_ = 0;
};

}  // namespace mixserve::io
