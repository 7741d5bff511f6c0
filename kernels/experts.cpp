#include "kernels/experts.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/partition.h"
#include "kernels/cuda/launch.h"
#include "kernels/elementwise.h"
#include "kernels/product.h"

namespace mixserve::kernels {
namespace {

/// Packed inputs and hidden activations that exist at a time.
constexpr int64_t max_chunk_bytes = 16 << 20;
/// Outputs of one task.
constexpr int64_t gate_strip = 256;
constexpr int64_t down_strip = 256;
/// Up to this many rows an expert, reading its weights is what takes time: rows of `down` are read in long
/// pieces.
constexpr int64_t few_rows = 4;

/// Some entries of one expert, as tiles. Their packed inputs begin at row `first_packed` of the chunk's.
struct Segment {
    int64_t expert = 0;
    Range entries;
    int64_t first_packed = 0;
    int64_t first_tile = 0;
    int64_t n_tiles = 0;
};

/// What is worked on at a time: segments in rising order of experts, and their tiles.
struct Chunk {
    std::vector<Segment> segments;
    std::vector<int64_t> segment_of_tile;
    int64_t n_entries = 0;

    void clear() {
        segments.clear();
        segment_of_tile.clear();
        n_entries = 0;
    }
    void add(int64_t expert, Range entries) {
        const auto first_tile = static_cast<int64_t>(segment_of_tile.size());
        const int64_t n_tiles = n_row_tiles(entries.size());
        segment_of_tile.insert(segment_of_tile.end(), static_cast<size_t>(n_tiles),
                               static_cast<int64_t>(segments.size()));
        segments.push_back({expert, entries, n_entries, first_tile, n_tiles});
        n_entries += entries.size();
    }
    int64_t n_tiles() const { return static_cast<int64_t>(segment_of_tile.size()); }
};

/// One call of expert_mlp().
class ExpertMlp {
  public:
    ExpertMlp(const float* x, int64_t n_rows, const ExpertRows& assignment, const ExpertWeights& weights,
              float* out, device::Stream& stream)
        : x_(x), n_rows_(n_rows), a_(assignment), w_(weights), out_(out), stream_(stream) {}

    void run() {
        std::fill_n(out_, n_rows_ * w_.hidden_size, 0.0f);
        const int64_t entry_bytes =
            (packed_hidden() + packed_intermediate()) * static_cast<int64_t>(sizeof(float));
        const int64_t limit = std::max(max_chunk_bytes / entry_bytes, max_tile_rows());
        for (int64_t expert = 0; expert < w_.n_experts; ++expert) {
            Range left = {a_.offsets[static_cast<size_t>(expert)],
                          a_.offsets[static_cast<size_t>(expert) + 1]};
            while (left.size() > 0) {
                const int64_t n = std::min(left.size(), limit - chunk_.n_entries);
                chunk_.add(expert, {left.begin, left.begin + n});
                left.begin += n;
                if (chunk_.n_entries == limit) run_chunk();
            }
        }
        if (chunk_.n_entries > 0) run_chunk();
    }

  private:
    int64_t packed_hidden() const { return packed_width(w_.hidden_size, w_.dtype); }
    int64_t packed_intermediate() const { return packed_width(w_.intermediate_size, w_.dtype); }

    Weight matrix(const void* stacked, int64_t expert, WeightLayout layout) const {
        const int64_t elements = w_.hidden_size * w_.intermediate_size;
        const bool up = layout == WeightLayout::out_in;
        return {static_cast<const std::byte*>(stacked) + expert * elements * size_of(w_.dtype), w_.dtype,
                layout, up ? w_.intermediate_size : w_.hidden_size,
                up ? w_.hidden_size : w_.intermediate_size};
    }

    Range rows_of_tile(const Segment& segment, int64_t tile) const {
        return partition(segment.entries.size(), segment.n_tiles, tile);
    }

    /// The tiles of every segment over data [n_entries, width], each tile packed.
    void make_tiles(std::vector<RowTile>& tiles, const float* data, int64_t width) const {
        tiles.clear();
        for (const Segment& segment : chunk_.segments) {
            for (int64_t t = 0; t < segment.n_tiles; ++t) {
                const Range rows = rows_of_tile(segment, t);
                tiles.push_back(
                    {data + (segment.first_packed + rows.begin) * width, rows.begin, rows.size()});
            }
        }
    }

    void run_chunk() {
        const int64_t hidden = w_.hidden_size;
        const int64_t intermediate = w_.intermediate_size;
        packed_ = reinterpret_cast<float*>(stream_.shared_scratch(
            static_cast<size_t>(chunk_.n_entries * (packed_hidden() + packed_intermediate())) *
            sizeof(float)));
        activations_ = packed_ + chunk_.n_entries * packed_hidden();
        make_tiles(inputs_, packed_, packed_hidden());
        make_tiles(hidden_tiles_, activations_, packed_intermediate());

        stream_.parallel_for(chunk_.n_tiles(), [&](int64_t tile, int) { pack(tile); });
        const int64_t n_strips = (intermediate + gate_strip - 1) / gate_strip;
        const auto n_segments = static_cast<int64_t>(chunk_.segments.size());
        stream_.parallel_for(n_segments * n_strips, [&](int64_t task, int thread) {
            activate(chunk_.segments[static_cast<size_t>(task / n_strips)], task % n_strips * gate_strip,
                     thread);
        });
        const int64_t n_threads = stream_.n_threads();
        const int64_t strip = chunk_.n_entries > few_rows * n_segments
                                  ? down_strip
                                  : std::max((hidden + n_threads - 1) / n_threads / 64 * 64, down_strip);
        stream_.parallel_for((hidden + strip - 1) / strip, [&](int64_t task, int thread) {
            project_down({task * strip, std::min((task + 1) * strip, hidden)}, thread);
        });
        chunk_.clear();
    }

    void pack(int64_t tile) const {
        const auto index = static_cast<size_t>(tile);
        const Segment& segment = chunk_.segments[static_cast<size_t>(chunk_.segment_of_tile[index])];
        const Range rows = rows_of_tile(segment, tile - segment.first_tile);
        pack_rows(x_, w_.hidden_size, a_.rows.data(), segment.entries.begin + rows.begin, rows.size(),
                  w_.hidden_size, w_.dtype, packed_ + (segment.first_packed + rows.begin) * packed_hidden());
    }

    /// Hidden units [first, first + gate_strip) of a segment: gate_weight * silu(gate) * up, packed for
    /// project_down().
    void activate(const Segment& segment, int64_t first, int thread) const {
        const int64_t n = std::min(gate_strip, w_.intermediate_size - first);
        const int64_t n_rows = segment.entries.size();
        const int64_t temporary = 2 * n_rows * n * static_cast<int64_t>(sizeof(float));
        std::byte* scratch = stream_.scratch(thread, static_cast<size_t>(multiply_scratch_bytes + temporary));
        float* gate = reinterpret_cast<float*>(scratch + multiply_scratch_bytes);
        float* up = gate + n_rows * n;
        std::fill_n(gate, 2 * n_rows * n, 0.0f);
        const RowTile* tiles = inputs_.data() + segment.first_tile;
        multiply_add(matrix(w_.gate, segment.expert, WeightLayout::out_in), first, n, tiles, segment.n_tiles,
                     {gate, n, nullptr}, stream_, thread, scratch);
        multiply_add(matrix(w_.up, segment.expert, WeightLayout::out_in), first, n, tiles, segment.n_tiles,
                     {up, n, nullptr}, stream_, thread, scratch);
        silu_mul_on_this_thread(gate, up, n_rows * n, gate);
        for (int64_t row = 0; row < n_rows; ++row) {
            const float weight = a_.gate_weights[static_cast<size_t>(segment.entries.begin + row)];
            for (int64_t i = 0; i < n; ++i)
                gate[row * n + i] *= weight;
        }
        // Strips begin where a line of the packed tile does.
        for (int64_t t = 0; t < segment.n_tiles; ++t) {
            const Range rows = rows_of_tile(segment, t);
            float* packed = activations_ + (segment.first_packed + rows.begin) * packed_intermediate();
            pack_rows(gate, n, nullptr, rows.begin, rows.size(), n, w_.dtype, packed + first * rows.size());
        }
    }

    /// Some outputs of every row, one expert after the other.
    void project_down(Range outputs, int thread) const {
        std::byte* scratch = stream_.scratch(thread, multiply_scratch_bytes);
        for (const Segment& segment : chunk_.segments) {
            multiply_add(matrix(w_.down, segment.expert, WeightLayout::in_out), outputs.begin, outputs.size(),
                         hidden_tiles_.data() + segment.first_tile, segment.n_tiles,
                         {out_ + outputs.begin, w_.hidden_size, a_.rows.data() + segment.entries.begin},
                         stream_, thread, scratch);
        }
    }

    const float* x_;
    int64_t n_rows_;
    const ExpertRows& a_;
    const ExpertWeights& w_;
    float* out_;
    device::Stream& stream_;
    Chunk chunk_;
    float* packed_ = nullptr;       // [n_entries, hidden_size] in tiles
    float* activations_ = nullptr;  // [n_entries, intermediate_size] in tiles
    std::vector<RowTile> inputs_;
    std::vector<RowTile> hidden_tiles_;
};

}  // namespace

void expert_mlp(const float* x, int64_t n_rows, const ExpertRows& assignment, const ExpertWeights& weights,
                float* out, device::Stream& stream) {
    MIXSERVE_ASSERT(assignment.offsets.size() == static_cast<size_t>(weights.n_experts) + 1);
    if (stream.gpu() != nullptr) return cuda::expert_mlp(x, n_rows, assignment, weights, out, stream);
    ExpertMlp(x, n_rows, assignment, weights, out, stream).run();
}

void expert_mlp(const float* x, int64_t n_rows, const ChosenExperts& chosen, const ExpertWeights& weights,
                float* out, device::Stream& stream) {
    require(stream.gpu() != nullptr, "expert_mlp from the router's choice is for GPUs");
    cuda::expert_mlp_routed(x, n_rows, chosen, weights, out, stream);
}

}  // namespace mixserve::kernels
