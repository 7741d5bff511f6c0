#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/cuda/simt.cuh"

namespace mixserve::kernels::cuda {
namespace {

using namespace mixserve::simt;

constexpr int router_threads = 128;
constexpr int sort_threads = 1024;
constexpr int sum_threads = 256;

/// Whether (a, expert a) comes before (b, expert b): the larger logit, ties to the lower index.
__device__ __forceinline__ bool is_better(float a, int index_a, float b, int index_b) {
    return a > b || (a == b && index_a < index_b);
}

// A warp a row. The best of the experts not yet taken, k times; a taken one is remembered as a bit of its
// lane's.
__global__ void route_kernel(const float* logits, int64_t n_rows, int n_experts, int k, bool renormalize,
                             int32_t* experts, float* weights, const int32_t* n_used) {
    const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / warp_size;
    if (row >= n_rows) return;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const float* row_logits = logits + row * n_experts;
    int32_t* chosen = experts + row * k;
    float* weight = weights + row * k;
    const float lowest = -INFINITY;
    if (n_used != nullptr && row >= *n_used) {
        for (int place = lane; place < k; place += warp_size) {
            chosen[place] = -1;
            weight[place] = 0.0F;
        }
        return;
    }

    uint64_t taken = 0;  // bit i: expert lane + 32 i
    float largest = 0.0F;
    float kept = 0.0F;
    float all = 0.0F;
    for (int place = 0; place < k; ++place) {
        float best = lowest;
        int best_expert = n_experts;
        for (int e = lane; e < n_experts; e += warp_size) {
            if ((taken >> (e / warp_size) & 1U) != 0) continue;
            const float logit = isnan(row_logits[e]) ? lowest : row_logits[e];
            if (best_expert == n_experts || is_better(logit, e, best, best_expert)) {
                best = logit;
                best_expert = e;
            }
        }
        for (int distance = warp_size / 2; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(all_lanes, best, distance);
            const int other_expert = __shfl_xor_sync(all_lanes, best_expert, distance);
            const bool take = other_expert < n_experts &&
                              (best_expert == n_experts || is_better(other, other_expert, best, best_expert));
            best = take ? other : best;
            best_expert = take ? other_expert : best_expert;
        }
        if (best_expert % warp_size == lane) taken |= uint64_t{1} << (best_expert / warp_size);
        if (place == 0) {
            largest = best;
            for (int e = lane; e < n_experts; e += warp_size)
                all += expf(row_logits[e] - largest);
            all = warp_sum(all);
        }
        const float probability = expf(row_logits[best_expert] - largest) / all;
        kept += probability;
        if (lane == 0) {
            chosen[place] = best_expert;
            weight[place] = probability;
        }
    }
    __syncwarp();
    for (int place = lane; renormalize && place < k; place += warp_size)
        weight[place] /= kept;
}

// A block an expert.
__global__ void count_kernel(const int32_t* experts, int64_t n_entries, int64_t first_expert,
                             int32_t* counts) {
    const int64_t expert = first_expert + blockIdx.x;
    int n = 0;
    for (int64_t i = threadIdx.x; i < n_entries; i += blockDim.x)
        n += experts[i] == expert ? 1 : 0;
    // Exact: counts stay far below 2^24.
    const float sum = block_sum(static_cast<float>(n), shared_memory<float>());
    if (threadIdx.x == 0) counts[blockIdx.x] = static_cast<int32_t>(sum);
}

// One thread: there are few experts, and few tiles.
__global__ void place_kernel(const int32_t* counts, int n_experts, int tile_rows, int32_t* offsets,
                             ExpertTile* tiles, int32_t* n_tiles) {
    int32_t at = 0;
    int32_t tile = 0;
    for (int e = 0; e < n_experts; ++e) {
        offsets[e] = at;
        for (int32_t first = 0; first < counts[e]; first += tile_rows)
            tiles[tile++] = {e, at + first};
        at += counts[e];
    }
    offsets[n_experts] = at;
    *n_tiles = tile;
}

// A block an expert: its entries by rising row, which is their order in `experts`.
__global__ void sort_kernel(const int32_t* experts, const float* weights, int64_t n_entries, int k,
                            int64_t first_expert, int64_t n_experts, const int32_t* offsets, int32_t* rows,
                            float* gate_weights, int32_t* places) {
    int* warp_counts = shared_memory<int>();
    const int64_t expert = first_expert + blockIdx.x;
    const int thread = static_cast<int>(threadIdx.x);
    int32_t next = offsets[blockIdx.x];
    for (int64_t base = 0; base < n_entries; base += blockDim.x) {
        const int64_t i = base + thread;
        const int64_t chosen = i < n_entries ? experts[i] : -1;
        const bool is_mine = i < n_entries && chosen == expert;
        const BlockRank rank = rank_in_block(is_mine, warp_counts);
        if (is_mine) {
            const int32_t place = next + rank.before;
            rows[place] = static_cast<int32_t>(i / k);
            gate_weights[place] = weights[i];
            places[i] = place;
        }
        const bool is_elsewhere = chosen < first_expert || chosen >= first_expert + n_experts;
        if (blockIdx.x == 0 && i < n_entries && is_elsewhere) places[i] = -1;
        next += rank.total;
    }
}

// A block a row; k is at most the threads of a block.
__global__ void sum_kernel(const float* parts, const int32_t* places, int k, int64_t width, float* out) {
    int32_t* ordered = shared_memory<int32_t>();  // [k], the row's places, rising
    const int32_t* own = places + static_cast<int64_t>(blockIdx.x) * k;
    const int thread = static_cast<int>(threadIdx.x);
    int n_parts = 0;
    int rank = 0;
    for (int j = 0; j < k; ++j) {
        n_parts += own[j] >= 0 ? 1 : 0;
        if (thread < k) rank += own[j] >= 0 && own[j] < own[thread] ? 1 : 0;
    }
    if (thread < k && own[thread] >= 0) ordered[rank] = own[thread];
    __syncthreads();
    for (int64_t i = thread; i < width; i += blockDim.x) {
        float sum = 0.0F;
        for (int j = 0; j < n_parts; ++j)
            sum += parts[ordered[j] * width + i];
        out[blockIdx.x * width + i] = sum;
    }
}

// A thread an entry. Sums of integers are the same in any order.
__global__ void count_choices_kernel(const int32_t* experts, int64_t n, int64_t n_experts,
                                     unsigned long long* counts) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n && experts[i] >= 0 && experts[i] < n_experts) atomicAdd(counts + experts[i], 1ULL);
}

/// Cuts device scratch into arrays, each at a multiple of 256 bytes.
class Cutter {
  public:
    template <class T>
    size_t add(int64_t n) {
        const size_t at = n_bytes_;
        n_bytes_ += (static_cast<size_t>(n) * sizeof(T) + 255) / 256 * 256;
        return at;
    }
    size_t n_bytes() const { return n_bytes_; }

  private:
    size_t n_bytes_ = 0;
};

}  // namespace

void route_top_k(const float* logits, int64_t n_rows, int64_t n_experts, int64_t k, bool renormalize,
                 int32_t* experts, float* weights, const int32_t* n_used, device::Stream& stream) {
    launch("route_top_k", *stream.gpu(),
           dim3(static_cast<unsigned>(ceil_div(n_rows * warp_size, router_threads))), router_threads, 0,
           route_kernel, logits, n_rows, n_experts, k, renormalize, experts, weights, n_used);
}

void count_choices(const int32_t* experts, int64_t n, int64_t n_experts, int64_t* counts,
                   device::Stream& stream) {
    launch("count_choices", *stream.gpu(), dim3(static_cast<unsigned>(ceil_div(n, sum_threads))), sum_threads,
           0, count_choices_kernel, experts, n, n_experts, reinterpret_cast<unsigned long long*>(counts));
}

SortedEntries sort_entries(const ChosenExperts& chosen, int64_t n_rows, int64_t n_experts, int64_t tile_rows,
                           device::Stream& stream) {
    const int64_t n_entries = n_rows * chosen.k;
    SortedEntries sorted;
    sorted.max_entries = chosen.max_entries < 0 ? n_entries : std::min(chosen.max_entries, n_entries);
    sorted.max_tiles = std::min(sorted.max_entries, sorted.max_entries / tile_rows + n_experts);
    sorted.k = chosen.k;

    Cutter cutter;
    const size_t counts_at = cutter.add<int32_t>(n_experts);
    const size_t offsets_at = cutter.add<int32_t>(n_experts + 1);
    const size_t rows_at = cutter.add<int32_t>(sorted.max_entries);
    const size_t weights_at = cutter.add<float>(sorted.max_entries);
    const size_t places_at = cutter.add<int32_t>(n_entries);
    const size_t tiles_at = cutter.add<ExpertTile>(sorted.max_tiles);
    const size_t n_tiles_at = cutter.add<int32_t>(1);
    std::byte* memory = stream.device_scratch(device::ScratchSlot::routing, cutter.n_bytes());
    auto* counts = reinterpret_cast<int32_t*>(memory + counts_at);
    auto* offsets = reinterpret_cast<int32_t*>(memory + offsets_at);
    auto* rows = reinterpret_cast<int32_t*>(memory + rows_at);
    auto* weights = reinterpret_cast<float*>(memory + weights_at);
    auto* places = reinterpret_cast<int32_t*>(memory + places_at);
    auto* tiles = reinterpret_cast<ExpertTile*>(memory + tiles_at);
    auto* n_tiles = reinterpret_cast<int32_t*>(memory + n_tiles_at);

    const dim3 experts(static_cast<unsigned>(n_experts));
    const int n_threads = threads_for(n_entries, sort_threads);
    constexpr size_t count_bytes = sort_threads / warp_size * sizeof(float);
    launch("count_entries", *stream.gpu(), experts, n_threads, count_bytes, count_kernel, chosen.experts,
           n_entries, chosen.first_expert, counts);
    launch("place_entries", *stream.gpu(), dim3(1), 1, 0, place_kernel, counts, n_experts, tile_rows, offsets,
           tiles, n_tiles);
    launch("sort_entries", *stream.gpu(), experts, n_threads, count_bytes, sort_kernel, chosen.experts,
           chosen.weights, n_entries, chosen.k, chosen.first_expert, n_experts, offsets, rows, weights,
           places);
    sorted.offsets = offsets;
    sorted.rows = rows;
    sorted.gate_weights = weights;
    sorted.places = places;
    sorted.tiles = tiles;
    sorted.n_tiles = n_tiles;
    return sorted;
}

SortedEntries upload_entries(const ExpertRows& host, int64_t n_rows, int64_t n_experts, int64_t tile_rows,
                             device::Stream& stream) {
    const auto n_entries = static_cast<int64_t>(host.rows.size());
    std::vector<int32_t> offsets;
    std::vector<ExpertTile> tiles;
    for (int64_t e = 0; e <= n_experts; ++e) {
        offsets.push_back(static_cast<int32_t>(host.offsets[static_cast<size_t>(e)]));
        if (e == n_experts) break;
        for (int64_t first = host.offsets[static_cast<size_t>(e)];
             first < host.offsets[static_cast<size_t>(e) + 1]; first += tile_rows)
            tiles.push_back({static_cast<int32_t>(e), static_cast<int32_t>(first)});
    }
    std::vector<int32_t> n_of_row(static_cast<size_t>(n_rows), 0);
    int32_t k = 0;
    for (const int32_t row : host.rows)
        k = std::max(k, ++n_of_row[static_cast<size_t>(row)]);
    std::vector<int32_t> places(static_cast<size_t>(n_rows * k), -1);
    std::fill(n_of_row.begin(), n_of_row.end(), 0);
    for (int64_t i = 0; i < n_entries; ++i) {
        const int64_t row = host.rows[static_cast<size_t>(i)];
        places[static_cast<size_t>(row * k + n_of_row[static_cast<size_t>(row)]++)] = static_cast<int32_t>(i);
    }

    SortedEntries sorted;
    sorted.max_entries = n_entries;
    sorted.max_tiles = static_cast<int64_t>(tiles.size());
    sorted.k = k;
    const auto n_tiles = static_cast<int32_t>(tiles.size());
    Cutter cutter;
    const size_t offsets_at = cutter.add<int32_t>(n_experts + 1);
    const size_t rows_at = cutter.add<int32_t>(n_entries);
    const size_t weights_at = cutter.add<float>(n_entries);
    const size_t places_at = cutter.add<int32_t>(n_rows * k);
    const size_t tiles_at = cutter.add<ExpertTile>(n_tiles);
    const size_t n_tiles_at = cutter.add<int32_t>(1);
    std::vector<std::byte> packed(cutter.n_bytes());
    const auto put = [&](size_t at, const void* data, size_t n_bytes) {
        if (n_bytes > 0) std::memcpy(packed.data() + at, data, n_bytes);
    };
    put(offsets_at, offsets.data(), offsets.size() * sizeof(int32_t));
    put(rows_at, host.rows.data(), host.rows.size_bytes());
    put(weights_at, host.gate_weights.data(), host.gate_weights.size_bytes());
    put(places_at, places.data(), places.size() * sizeof(int32_t));
    put(tiles_at, tiles.data(), tiles.size() * sizeof(ExpertTile));
    put(n_tiles_at, &n_tiles, sizeof n_tiles);
    std::byte* memory = stream.device_scratch(device::ScratchSlot::routing, packed.size());
    stream.upload(memory, packed.data(), packed.size());
    sorted.offsets = reinterpret_cast<const int32_t*>(memory + offsets_at);
    sorted.rows = reinterpret_cast<const int32_t*>(memory + rows_at);
    sorted.gate_weights = reinterpret_cast<const float*>(memory + weights_at);
    sorted.places = reinterpret_cast<const int32_t*>(memory + places_at);
    sorted.tiles = reinterpret_cast<const ExpertTile*>(memory + tiles_at);
    sorted.n_tiles = reinterpret_cast<const int32_t*>(memory + n_tiles_at);
    return sorted;
}

void sum_entries(const float* parts, const SortedEntries& entries, int64_t n_rows, int64_t width, float* out,
                 device::Stream& stream) {
    launch("sum_entries", *stream.gpu(), dim3(static_cast<unsigned>(n_rows)),
           threads_for(std::max(width, entries.k), sum_threads),
           static_cast<size_t>(entries.k) * sizeof(int32_t), sum_kernel, parts, entries.places, entries.k,
           width, out);
}

}  // namespace mixserve::kernels::cuda
