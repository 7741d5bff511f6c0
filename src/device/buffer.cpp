#include "device/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "device/gpu.h"

namespace mixserve::device {
namespace {

constexpr size_t page_bytes = 4096;
constexpr size_t huge_page_bytes = size_t{2} << 20;

size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

void* host_allocate(size_t n_bytes) {
    const size_t alignment = n_bytes >= huge_page_bytes ? huge_page_bytes : page_bytes;
    void* memory = n_bytes > SIZE_MAX - alignment
                       ? nullptr
                       : std::aligned_alloc(alignment, round_up(n_bytes, alignment));
    require(memory != nullptr, "no memory for {} bytes: use more ranks or nodes, or a smaller KV cache",
            n_bytes);
    if (alignment == huge_page_bytes) madvise(memory, round_up(n_bytes, alignment), MADV_HUGEPAGE);
    return memory;
}

}  // namespace

Buffer::Buffer(size_t n_bytes, Memory memory) : memory_(memory) {
    if (n_bytes == 0) return;
    data_ = static_cast<std::byte*>(memory == Memory::host ? host_allocate(n_bytes)
                                                           : gpu_allocate(n_bytes, memory));
    n_bytes_ = n_bytes;
}

Buffer::~Buffer() {
    if (memory_ == Memory::host) {
        std::free(data_);
    } else if (data_ != nullptr) {
        gpu_free(data_, memory_);
    }
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      n_bytes_(std::exchange(other.n_bytes_, 0)),
      memory_(other.memory_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    std::swap(memory_, other.memory_);
    return *this;
}

void Buffer::reserve(size_t n_bytes, Memory memory) {
    if (n_bytes <= n_bytes_ && memory == memory_) return;
    *this = Buffer();  // the old memory goes before the new one comes
    *this = Buffer(n_bytes, memory);
}

void Buffer::grow(size_t n_bytes, Memory memory) {
    const bool is_first = n_bytes_ == 0 || memory != memory_;
    if (is_first || n_bytes > n_bytes_) reserve(is_first ? n_bytes : n_bytes + n_bytes / 2, memory);
}

}  // namespace mixserve::device
