#pragma once

#include <cstddef>
#include <vector>

#include "device/buffer.h"
#include "device/gpu.h"

namespace mixserve::device {

/// Page-locked pieces of memory in turn, through which bytes go to the GPU while the host prepares the next
/// piece.
class UploadRing {
  public:
    explicit UploadRing(int n_pieces = 4) : pieces_(static_cast<size_t>(n_pieces)) {}

    /// The next piece, at least `n_bytes` large, once the copy that last used it is done.
    std::byte* begin(size_t n_bytes);
    /// Enqueues the copy of the first `n_bytes` of the piece that begin() gave.
    void send(void* device, size_t n_bytes, GpuQueue& queue);
    /// Both, for bytes that lie elsewhere; they may change afterwards.
    void upload(void* device, const void* bytes, size_t n_bytes, GpuQueue& queue);

  private:
    struct Piece {
        Buffer memory;
        GpuEvent copied;
    };
    std::vector<Piece> pieces_;
    size_t next_ = 0;
};

}  // namespace mixserve::device
