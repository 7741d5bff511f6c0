#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace mixserve {

/// memcpy(), but the pointers may be null where `n` is 0, as those of empty arrays are.
inline void copy_bytes(void* to, const void* from, size_t n) {
    if (n > 0) std::memcpy(to, from, n);
}

/// Packs plain values, texts and arrays into a message between ranks of one run (same program, same byte
/// order).
class ByteWriter {
  public:
    template <class T>
    void put(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        append(&value, sizeof(T));
    }
    template <class T>
    void put_array(std::span<const T> values) {
        static_assert(std::is_trivially_copyable_v<T>);
        put(static_cast<int64_t>(values.size()));
        append(values.data(), values.size_bytes());
    }
    template <class T>
    void put_array(const std::vector<T>& values) {
        put_array(std::span<const T>(values));
    }
    void put_text(const std::string& text) { put_array(std::span<const char>(text)); }

    std::span<const std::byte> bytes() const { return bytes_; }
    std::vector<std::byte> take() { return std::move(bytes_); }

  private:
    void append(const void* data, size_t n) {
        const auto* first = static_cast<const std::byte*>(data);
        bytes_.insert(bytes_.end(), first, first + n);
    }
    std::vector<std::byte> bytes_;
};

/// Reads back what a ByteWriter packed, in the same order. Error where the message is too short.
class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

    template <class T>
    T get() {
        T value;
        std::memcpy(&value, take(sizeof(T)), sizeof(T));
        return value;
    }
    template <class T>
    std::vector<T> get_array() {
        const auto n = static_cast<size_t>(get<int64_t>());
        require(n <= rest_.size() / sizeof(T), "a message between ranks is cut short");
        std::vector<T> values(n);
        const std::byte* data = take(n * sizeof(T));
        copy_bytes(values.data(), data, n * sizeof(T));
        return values;
    }
    std::string get_text() {
        const std::vector<char> chars = get_array<char>();
        return {chars.begin(), chars.end()};
    }
    bool at_end() const { return rest_.empty(); }

  private:
    const std::byte* take(size_t n) {
        require(n <= rest_.size(), "a message between ranks is cut short");
        const std::byte* data = rest_.data();
        rest_ = rest_.subspan(n);
        return data;
    }
    std::span<const std::byte> rest_;
};

}  // namespace mixserve
