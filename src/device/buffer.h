#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mixserve::device {

/// Where memory lies: this process's own, the same page-locked (so that a GPU copies from it while the host
/// goes on), or the GPU's, which the host must not touch.
enum class Memory : uint8_t { host, pinned, device };

/// Memory for weights, caches and activations, 4 KiB aligned (device memory: 16 bytes at least; large host
/// memory on huge pages where the system grants them). Not initialised: pages become resident when first
/// written. Throws Error naming the size when there is no memory.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t n_bytes, Memory memory = Memory::host);
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;

    std::byte* data() { return data_; }
    const std::byte* data() const { return data_; }
    size_t size() const { return n_bytes_; }
    Memory memory() const { return memory_; }

    template <class T>
    std::span<T> as() {
        return {reinterpret_cast<T*>(data_), n_bytes_ / sizeof(T)};
    }
    template <class T>
    std::span<const T> as() const {
        return {reinterpret_cast<const T*>(data_), n_bytes_ / sizeof(T)};
    }

    /// Makes it at least `n_bytes` large, in `memory`; what it held is lost when it grows.
    void reserve(size_t n_bytes, Memory memory = Memory::host);
    /// The same; after the first time it takes half as much again, so that sizes that rise step by step do
    /// not allocate each time.
    void grow(size_t n_bytes, Memory memory = Memory::host);

  private:
    std::byte* data_ = nullptr;
    size_t n_bytes_ = 0;
    Memory memory_ = Memory::host;
};

}  // namespace mixserve::device
