#pragma once

#include <cstdint>
#include <vector>

#include "device/stream.h"
#include "model/config.h"

namespace mixserve::model {

/// Cosines and sines of every position and frequency, [n_positions, head_dim / 2] each, f32.
struct RopeTable {
    std::vector<float> cos;
    std::vector<float> sin;
};

/// Frequencies as transformers' modeling_rope_utils computes them, in f32. `dynamic` scaling (NTK, by the
/// length of the longest sequence) is fixed at `n_positions`, as a cache of keys needs: nothing changes up to
/// max_position_embeddings, and past it a whole run has one base.
RopeTable make_rope_table(const ModelConfig& config, int64_t n_positions);

/// The same where kernels on a stream read it.
struct PlacedRopeTable {
    PlacedRopeTable(const RopeTable& table, device::Stream& stream)
        : cos(device::place(table.cos, stream)), sin(device::place(table.sin, stream)) {}
    device::Buffer cos;
    device::Buffer sin;
};

}  // namespace mixserve::model
