#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "device/buffer.h"
#include "device/stream.h"
#include "engine/sampler.h"
#include "kernels/sampling.h"

namespace mixserve::engine {

/// Draws the tokens of a step where its logits are, on the GPU (kernels/sampling.h), with Sampler's rules:
/// what comes to the host is a few bytes a row. Rows are added a tile of logits at a time; nothing is waited
/// for until finish().
class GpuSampler {
  public:
    /// `stream`, which has a GPU, is borrowed.
    GpuSampler(int64_t vocab_size, device::Stream& stream) : vocab_size_(vocab_size), stream_(stream) {}

    /// Row `row` of the logits that enqueue() will get. False, and nothing is added, where Sampler has to
    /// take it: a vocabulary of more than kernels::max_sampled_vocab, or every token banned, which is its
    /// error. Error when an id is out of range.
    bool add(const SampleInput& input, int64_t row);
    /// Enqueues what has been added since the last call.
    void enqueue(const kernels::SlicedLogits& logits);
    /// The results of all rows since the last call, in the order of add(). Error when a logit was not finite.
    std::vector<Sampled> finish();

  private:
    /// Results of the rows of one tile.
    struct Tile {
        std::vector<kernels::RowSampling> rows;
        size_t top_at = 0;  // bytes, where the listed tokens begin
        device::Buffer on_gpu;
        device::Buffer pinned;
    };
    Sampled result_of(const Tile& tile, size_t i) const;

    int64_t vocab_size_;
    device::Stream& stream_;
    kernels::SamplingBatch batch_;
    std::deque<Tile> tiles_;  // kept between steps
    size_t n_tiles_ = 0;      // of this step
};

}  // namespace mixserve::engine
