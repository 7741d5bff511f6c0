#include "device/upload_ring.h"

#include "base/bytes.h"
#include "base/error.h"

namespace mixserve::device {

std::byte* UploadRing::begin(size_t n_bytes) {
    Piece& piece = pieces_[next_];
    piece.copied.wait();
    piece.memory.reserve(n_bytes, Memory::pinned);
    return piece.memory.data();
}

void UploadRing::send(void* device, size_t n_bytes, GpuQueue& queue) {
    Piece& piece = pieces_[next_];
    MIXSERVE_ASSERT(n_bytes <= piece.memory.size());
    queue.copy_in(device, piece.memory.data(), n_bytes);
    piece.copied.record(queue);
    next_ = (next_ + 1) % pieces_.size();
}

void UploadRing::upload(void* device, const void* bytes, size_t n_bytes, GpuQueue& queue) {
    if (n_bytes == 0) return;
    copy_bytes(begin(n_bytes), bytes, n_bytes);
    send(device, n_bytes, queue);
}

}  // namespace mixserve::device
