#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

namespace mixserve::kernels::cuda {
namespace {

using namespace mixserve::simt;

constexpr int row_threads = 256;
constexpr int plan_threads = 1024;
constexpr size_t plan_bytes = plan_threads / warp_size * sizeof(int);
// A place a warp for reductions over a block.
constexpr size_t reduce_bytes = row_threads / warp_size * sizeof(int);

dim3 blocks(int64_t n) {
    return dim3(static_cast<unsigned>(n));
}

// A block a node.
__global__ void plan_kernel(const int32_t* experts, int64_t n_rows, int k, const int32_t* node_of_expert,
                            int32_t* rows, int32_t* places, int32_t* counts) {
    int* warp_counts = shared_memory<int>();
    const int node = static_cast<int>(blockIdx.x);
    const int thread = static_cast<int>(threadIdx.x);
    int next = 0;
    int n_entries = 0;
    for (int64_t base = 0; base < n_rows; base += blockDim.x) {
        const int64_t row = base + thread;
        int n_mine = 0;
        for (int j = 0; row < n_rows && j < k; ++j)
            n_mine += node_of_expert[experts[row * k + j]] == node ? 1 : 0;
        n_entries += n_mine;
        const BlockRank rank = rank_in_block(n_mine > 0, warp_counts);
        if (row < n_rows) {
            const int place = next + rank.before;
            places[node * n_rows + row] = n_mine > 0 ? place : -1;
            if (n_mine > 0) rows[node * n_rows + place] = static_cast<int32_t>(row);
        }
        next += rank.total;
    }
    // Exact: far below 2^24.
    const float sum = block_sum(static_cast<float>(n_entries), shared_memory<float>());
    if (thread == 0) {
        counts[2 * node] = next;
        counts[2 * node + 1] = static_cast<int32_t>(sum);
    }
}

/// The largest over the threads of a block of whole warps, the same in every thread.
__device__ __forceinline__ int block_max(int value, int* slots) {
    for (int distance = warp_size / 2; distance > 0; distance /= 2) {
        const int other = __shfl_xor_sync(all_lanes, value, distance);
        value = other > value ? other : value;
    }
    if (threadIdx.x % warp_size == 0) slots[threadIdx.x / warp_size] = value;
    __syncthreads();
    int largest = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x) / warp_size; ++w)
        largest = slots[w] > largest ? slots[w] : largest;
    return largest;
}

/// A row whose i-th value is value(i), as it travels; all threads of a block, and the bits of encode_rows().
template <class Value>
__device__ __forceinline__ void encode_row(WireType type, int64_t width, const Value& value,
                                           unsigned char* wire) {
    if (type == WireType::f32) {
        auto* out = reinterpret_cast<float*>(wire);
        for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
            out[i] = value(i);
        return;
    }
    if (type == WireType::bf16) {
        auto* out = reinterpret_cast<uint16_t*>(wire);
        for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
            out[i] = float_to_bf16(value(i));
        return;
    }
    // Magnitudes compare as integers do, and NaN is above all.
    int largest_bits = 0;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
        const int bits = static_cast<int>(as_bits(value(i)) & 0x7fffffffU);
        largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    largest_bits = block_max(largest_bits, shared_memory<int>());
    const bool is_finite = largest_bits < 0x7f800000;
    const float scale =
        is_finite ? as_float(static_cast<uint32_t>(largest_bits)) / 127.0F : as_float(0x7fc00000U);
    constexpr float smallest_normal = 1.17549435e-38F;
    const float inverse = is_finite && scale > smallest_normal ? 1.0F / scale : 0.0F;
    if (threadIdx.x == 0) *reinterpret_cast<float*>(wire) = scale;
    auto* out = reinterpret_cast<signed char*>(wire + sizeof(float));
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        out[i] = static_cast<signed char>(is_finite ? rintf(multiply_apart(value(i), inverse)) : 0.0F);
}

__device__ __forceinline__ float decode_value(WireType type, const unsigned char* wire, int64_t i) {
    if (type == WireType::f32) return reinterpret_cast<const float*>(wire)[i];
    if (type == WireType::bf16) return bf16_to_float(reinterpret_cast<const uint16_t*>(wire)[i]);
    return multiply_apart(*reinterpret_cast<const float*>(wire),
                          static_cast<float>(reinterpret_cast<const signed char*>(wire + sizeof(float))[i]));
}

struct Record {
    WireType type;
    int64_t hidden_size;
    int k;
    int64_t weights_offset;
    int64_t n_bytes;
};

Record record_of(const RecordFormat& format) {
    return {format.type, format.hidden_size, static_cast<int>(format.k), format.weights_offset(),
            format.record_bytes()};
}

// A block a record.
__global__ void pack_kernel(RowSource source, NodePlan plan, Record format, int first_node,
                            unsigned char* records, int64_t message_bytes) {
    const int node = first_node + static_cast<int>(blockIdx.y);
    unsigned char* record = records + blockIdx.y * message_bytes + blockIdx.x * format.n_bytes;
    auto* weights = reinterpret_cast<float*>(record + format.weights_offset);
    auto* experts = reinterpret_cast<int32_t*>(weights + format.k);
    const bool has_row = static_cast<int>(blockIdx.x) < plan.counts[2 * node];
    const int64_t row = has_row ? plan.rows[node * plan.n_rows + blockIdx.x] : 0;
    for (int j = static_cast<int>(threadIdx.x); j < format.k; j += static_cast<int>(blockDim.x)) {
        experts[j] = has_row ? source.experts[row * format.k + j] : -1;
        weights[j] =
            !has_row ? 0.0F : (source.weights == nullptr ? 1.0F : source.weights[row * format.k + j]);
    }
    const float* x = source.x + row / source.rows_per_token * format.hidden_size;
    encode_row(
        format.type, format.hidden_size, [&](int64_t i) { return has_row ? x[i] : 0.0F; }, record);
}

__global__ void unpack_kernel(const unsigned char* records, Record format, float* x, int32_t* experts,
                              float* weights) {
    const unsigned char* record = records + blockIdx.x * format.n_bytes;
    for (int64_t i = threadIdx.x; i < format.hidden_size; i += blockDim.x)
        x[blockIdx.x * format.hidden_size + i] = decode_value(format.type, record, i);
    const auto* from = reinterpret_cast<const float*>(record + format.weights_offset);
    for (int j = static_cast<int>(threadIdx.x); j < format.k; j += static_cast<int>(blockDim.x)) {
        weights[static_cast<int64_t>(blockIdx.x) * format.k + j] = from[j];
        experts[static_cast<int64_t>(blockIdx.x) * format.k + j] =
            reinterpret_cast<const int32_t*>(from + format.k)[j];
    }
}

__device__ __forceinline__ float sum_at(const RankParts& parts, int64_t i) {
    float sum = parts.own_rank == 0 ? parts.own[i] : parts.others[i];
    for (int r = 1; r < parts.n_ranks; ++r)
        sum += r == parts.own_rank ? parts.own[i] : parts.others[r * parts.stride + i];
    return sum;
}

__global__ void sum_kernel(RankParts parts, int64_t n, float* out, bool accumulate) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float sum = sum_at(parts, i);
    out[i] = accumulate ? out[i] + sum : sum;
}

__global__ void sum_to_wire_kernel(RankParts parts, int64_t hidden_size, WireType type, unsigned char* wire,
                                   int64_t row_bytes) {
    const int64_t first = blockIdx.x * hidden_size;
    encode_row(
        type, hidden_size, [&](int64_t i) { return sum_at(parts, first + i); },
        wire + blockIdx.x * row_bytes);
}

/// The sums as they came back, and how far apart their rows are.
struct Returned {
    const unsigned char* wire;
    WireType type;
    int64_t hidden_size;
    int64_t row_bytes;
    int64_t rows_per_node;

    __device__ __forceinline__ const unsigned char* row(const NodePlan& plan, int node, int place) const {
        int64_t first = node * rows_per_node;
        if (rows_per_node < 0) {
            first = 0;
            for (int b = 0; b < node; ++b)
                first += plan.counts[2 * b];
        }
        return wire + (first + place) * row_bytes;
    }
};

Returned returned(const ReturnedSums& sums) {
    return {reinterpret_cast<const unsigned char*>(sums.wire), sums.type, sums.hidden_size,
            wire_row_bytes(sums.type, sums.hidden_size), sums.rows_per_node};
}

// A block a row. `found`: the row's parts in order, found once by the first thread.
struct Found {
    const unsigned char* wire;
    float weight;
};

__global__ void add_nodes_kernel(Returned sums, NodePlan plan, float* y) {
    auto* found = shared_memory<Found>();
    auto* n_found = reinterpret_cast<int*>(found + plan.n_nodes);
    if (threadIdx.x == 0) {
        int n = 0;
        for (int node = 0; node < plan.n_nodes; ++node) {
            const int place = plan.places[node * plan.n_rows + blockIdx.x];
            if (place >= 0) found[n++].wire = sums.row(plan, node, place);
        }
        *n_found = n;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < sums.hidden_size; i += blockDim.x) {
        float sum = decode_value(sums.type, found[0].wire, i);
        for (int part = 1; part < *n_found; ++part)
            sum += decode_value(sums.type, found[part].wire, i);
        y[blockIdx.x * sums.hidden_size + i] = sum;
    }
}

__global__ void add_weighted_kernel(Returned sums, NodePlan plan, const int32_t* experts,
                                    const float* weights, int k, const int32_t* node_of_expert, float* y) {
    auto* found = shared_memory<Found>();
    const int64_t first = static_cast<int64_t>(blockIdx.x) * k;
    for (int j = static_cast<int>(threadIdx.x); j < k; j += static_cast<int>(blockDim.x)) {
        const int expert = experts[first + j];
        int rank = 0;
        for (int other = 0; other < k; ++other)
            rank += experts[first + other] < expert ? 1 : 0;
        const int node = node_of_expert[expert];
        found[rank] = {sums.row(plan, node, plan.places[node * plan.n_rows + first + j]), weights[first + j]};
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < sums.hidden_size; i += blockDim.x) {
        float sum = 0.0F;
        for (int j = 0; j < k; ++j)
            sum += multiply_apart(found[j].weight, decode_value(sums.type, found[j].wire, i));
        y[blockIdx.x * sums.hidden_size + i] = sum;
    }
}

}  // namespace

void plan_nodes(const int32_t* experts, int64_t k, const int32_t* node_of_expert, const NodePlan& plan,
                device::Stream& stream) {
    launch("plan_nodes", *stream.gpu(), blocks(plan.n_nodes), threads_for(plan.n_rows, plan_threads),
           plan_bytes, plan_kernel, experts, plan.n_rows, k, node_of_expert, plan.rows, plan.places,
           plan.counts);
}

void pack_records(const RowSource& source, const NodePlan& plan, const RecordFormat& format, int first_node,
                  int n_nodes, int64_t n_records, std::byte* records, int64_t message_bytes,
                  device::Stream& stream) {
    if (n_records == 0 || n_nodes == 0) return;
    launch("pack_records", *stream.gpu(),
           dim3(static_cast<unsigned>(n_records), static_cast<unsigned>(n_nodes)),
           threads_for(format.hidden_size, row_threads), reduce_bytes, pack_kernel, source, plan,
           record_of(format), first_node, reinterpret_cast<unsigned char*>(records), message_bytes);
}

void unpack_records(const std::byte* records, int64_t n_records, const RecordFormat& format, float* x,
                    int32_t* experts, float* weights, device::Stream& stream) {
    if (n_records == 0) return;
    launch("unpack_records", *stream.gpu(), blocks(n_records), threads_for(format.hidden_size, row_threads),
           0, unpack_kernel, reinterpret_cast<const unsigned char*>(records), record_of(format), x, experts,
           weights);
}

void sum_ranks(const RankParts& parts, int64_t n, float* out, bool accumulate, device::Stream& stream) {
    if (n == 0) return;
    launch("sum_ranks", *stream.gpu(), blocks(ceil_div(n, row_threads)), row_threads, 0, sum_kernel, parts, n,
           out, accumulate);
}

void sum_ranks_to_wire(const RankParts& parts, int64_t n_rows, int64_t hidden_size, WireType type,
                       std::byte* wire, device::Stream& stream) {
    if (n_rows == 0) return;
    launch("sum_ranks_to_wire", *stream.gpu(), blocks(n_rows), threads_for(hidden_size, row_threads),
           reduce_bytes, sum_to_wire_kernel, parts, hidden_size, type, reinterpret_cast<unsigned char*>(wire),
           wire_row_bytes(type, hidden_size));
}

void add_node_sums(const ReturnedSums& sums, const NodePlan& plan, float* y, device::Stream& stream) {
    if (plan.n_rows == 0) return;
    launch("add_node_sums", *stream.gpu(), blocks(plan.n_rows), threads_for(sums.hidden_size, row_threads),
           static_cast<size_t>(plan.n_nodes) * sizeof(Found) + sizeof(int), add_nodes_kernel, returned(sums),
           plan, y);
}

void add_weighted_sums(const ReturnedSums& sums, const NodePlan& plan, const int32_t* experts,
                       const float* weights, int64_t k, const int32_t* node_of_expert, float* y,
                       device::Stream& stream) {
    if (plan.n_rows == 0) return;
    launch("add_weighted_sums", *stream.gpu(), blocks(plan.n_rows / k),
           threads_for(sums.hidden_size, row_threads), static_cast<size_t>(k) * sizeof(Found),
           add_weighted_kernel, returned(sums), plan, experts, weights, k, node_of_expert, y);
}

}  // namespace mixserve::kernels::cuda
