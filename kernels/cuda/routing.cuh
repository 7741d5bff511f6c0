#pragma once

#include <cstdint>

#include "base/partition.h"
#include "device/stream.h"
#include "kernels/experts.h"

namespace mixserve::kernels::cuda {

/// Some rows of one expert that a block multiplies.
struct ExpertTile {
    int32_t expert;
    int32_t first_entry;
};

/// A step's (row, expert) entries sorted by expert, in device memory (in the stream's slot for it). Within an
/// expert they are by rising row.
struct SortedEntries {
    int64_t max_entries = 0;              // that there can be; how many there are only the GPU knows
    const int32_t* offsets = nullptr;     // [n_experts + 1]
    const int32_t* rows = nullptr;        // [max_entries], of x
    const float* gate_weights = nullptr;  // [max_entries]
    const int32_t* places = nullptr;      // [n_rows, k]: where each of a row's entries is; -1: not among them
    int64_t k = 0;
    const ExpertTile* tiles = nullptr;  // [max_tiles], of tile_rows entries at most each
    const int32_t* n_tiles = nullptr;   // how many there are
    int64_t max_tiles = 0;
};

/// Sorts what the router chose for `n_rows` rows on the GPU.
SortedEntries sort_entries(const ChosenExperts& chosen, int64_t n_rows, int64_t n_experts, int64_t tile_rows,
                           device::Stream& stream);
/// Uploads what the host has sorted.
SortedEntries upload_entries(const ExpertRows& rows, int64_t n_rows, int64_t n_experts, int64_t tile_rows,
                             device::Stream& stream);

/// out[t] = the sum of parts[place] [width] over the entries of row t, by rising place and so by rising
/// expert.
void sum_entries(const float* parts, const SortedEntries& entries, int64_t n_rows, int64_t width, float* out,
                 device::Stream& stream);

}  // namespace mixserve::kernels::cuda
