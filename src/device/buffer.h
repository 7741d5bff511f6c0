#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mixserve::device {

/// Memory for weights, caches and activations, 4 KiB aligned (large ones on huge pages where the system
/// grants them). Not initialised: pages become resident when first written. Throws Error naming the size when
/// there is no memory.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t n_bytes);
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;

    std::byte* data() { return data_; }
    const std::byte* data() const { return data_; }
    size_t size() const { return n_bytes_; }

    template <class T>
    std::span<T> as() {
        return {reinterpret_cast<T*>(data_), n_bytes_ / sizeof(T)};
    }
    template <class T>
    std::span<const T> as() const {
        return {reinterpret_cast<const T*>(data_), n_bytes_ / sizeof(T)};
    }

    /// Makes it at least `n_bytes` large; what it held is lost when it grows.
    void reserve(size_t n_bytes);

  private:
    std::byte* data_ = nullptr;
    size_t n_bytes_ = 0;
};

}  // namespace mixserve::device
