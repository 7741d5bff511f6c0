#include "kernels/packing.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/launch.h"

namespace mixserve::kernels {
namespace {

/// The first of node's rows among all that came back.
int64_t first_returned(const ReturnedSums& sums, const NodePlan& plan, int node) {
    if (sums.rows_per_node >= 0) return node * sums.rows_per_node;
    int64_t first = 0;
    for (int b = 0; b < node; ++b)
        first += plan.counts[2 * b];
    return first;
}

std::vector<float> returned_row(const ReturnedSums& sums, const NodePlan& plan, int node, int64_t place) {
    std::vector<float> row(static_cast<size_t>(sums.hidden_size));
    const int64_t at = first_returned(sums, plan, node) + place;
    decode_rows(sums.type, sums.wire + at * wire_row_bytes(sums.type, sums.hidden_size), 1, sums.hidden_size,
                row.data());
    return row;
}

}  // namespace

void plan_nodes(const int32_t* experts, int64_t k, const int32_t* node_of_expert, const NodePlan& plan,
                device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::plan_nodes(experts, k, node_of_expert, plan, stream);
    std::fill_n(plan.counts, 2 * plan.n_nodes, 0);
    std::fill_n(plan.places, plan.n_nodes * plan.n_rows, -1);
    for (int64_t row = 0; row < plan.n_rows; ++row) {
        for (int64_t j = 0; j < k; ++j) {
            const int32_t node = node_of_expert[experts[row * k + j]];
            int32_t& place = plan.places[node * plan.n_rows + row];
            if (place < 0) {
                place = plan.counts[2 * node]++;
                plan.rows[node * plan.n_rows + place] = static_cast<int32_t>(row);
            }
            ++plan.counts[2 * node + 1];
        }
    }
}

void pack_records(const RowSource& source, const NodePlan& plan, const RecordFormat& format, int first_node,
                  int n_nodes, int64_t n_records, std::byte* records, int64_t message_bytes,
                  device::Stream& stream) {
    if (stream.gpu() != nullptr) {
        return cuda::pack_records(source, plan, format, first_node, n_nodes, n_records, records,
                                  message_bytes, stream);
    }
    for (int i = 0; i < n_nodes; ++i) {
        const int node = first_node + i;
        for (int64_t r = 0; r < n_records; ++r) {
            std::byte* record = records + i * message_bytes + r * format.record_bytes();
            std::memset(record, 0, static_cast<size_t>(format.record_bytes()));
            auto* weights = reinterpret_cast<float*>(record + format.weights_offset());
            auto* experts = reinterpret_cast<int32_t*>(weights + format.k);
            if (r >= plan.counts[2 * node]) {
                std::fill_n(experts, format.k, -1);
                continue;
            }
            const int64_t row = plan.rows[node * plan.n_rows + r];
            encode_rows(format.type, source.x + row / source.rows_per_token * format.hidden_size, 1,
                        format.hidden_size, record);
            std::copy_n(source.experts + row * format.k, format.k, experts);
            for (int64_t j = 0; j < format.k; ++j)
                weights[j] = source.weights == nullptr ? 1.0F : source.weights[row * format.k + j];
        }
    }
}

void unpack_records(const std::byte* records, int64_t n_records, const RecordFormat& format, float* x,
                    int32_t* experts, float* weights, device::Stream& stream) {
    if (stream.gpu() != nullptr) {
        return cuda::unpack_records(records, n_records, format, x, experts, weights, stream);
    }
    for (int64_t r = 0; r < n_records; ++r) {
        const std::byte* record = records + r * format.record_bytes();
        decode_rows(format.type, record, 1, format.hidden_size, x + r * format.hidden_size);
        const auto* from = reinterpret_cast<const float*>(record + format.weights_offset());
        std::copy_n(from, format.k, weights + r * format.k);
        std::copy_n(reinterpret_cast<const int32_t*>(from + format.k), format.k, experts + r * format.k);
    }
}

void sum_ranks(const RankParts& parts, int64_t n, float* out, bool accumulate, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::sum_ranks(parts, n, out, accumulate, stream);
    const auto part = [&](int rank) {
        return rank == parts.own_rank ? parts.own : parts.others + rank * parts.stride;
    };
    for (int64_t i = 0; i < n; ++i) {
        float sum = part(0)[i];
        for (int r = 1; r < parts.n_ranks; ++r)
            sum += part(r)[i];
        out[i] = accumulate ? out[i] + sum : sum;
    }
}

void sum_ranks_to_wire(const RankParts& parts, int64_t n_rows, int64_t hidden_size, WireType type,
                       std::byte* wire, device::Stream& stream) {
    if (stream.gpu() != nullptr)
        return cuda::sum_ranks_to_wire(parts, n_rows, hidden_size, type, wire, stream);
    std::vector<float> sums(static_cast<size_t>(n_rows * hidden_size));
    sum_ranks(parts, n_rows * hidden_size, sums.data(), false, stream);
    encode_rows(type, sums.data(), n_rows, hidden_size, wire);
}

void add_node_sums(const ReturnedSums& sums, const NodePlan& plan, float* y, device::Stream& stream) {
    if (stream.gpu() != nullptr) return cuda::add_node_sums(sums, plan, y, stream);
    for (int64_t row = 0; row < plan.n_rows; ++row) {
        float* out = y + row * sums.hidden_size;
        bool is_first = true;
        for (int node = 0; node < plan.n_nodes; ++node) {
            const int32_t place = plan.places[node * plan.n_rows + row];
            if (place < 0) continue;
            const std::vector<float> part = returned_row(sums, plan, node, place);
            for (int64_t i = 0; i < sums.hidden_size; ++i)
                out[i] = is_first ? part[static_cast<size_t>(i)] : out[i] + part[static_cast<size_t>(i)];
            is_first = false;
        }
    }
}

void add_weighted_sums(const ReturnedSums& sums, const NodePlan& plan, const int32_t* experts,
                       const float* weights, int64_t k, const int32_t* node_of_expert, float* y,
                       device::Stream& stream) {
    if (stream.gpu() != nullptr)
        return cuda::add_weighted_sums(sums, plan, experts, weights, k, node_of_expert, y, stream);
    for (int64_t token = 0; token < plan.n_rows / k; ++token) {
        std::vector<int64_t> entries;
        for (int64_t j = 0; j < k; ++j)
            entries.push_back(token * k + j);
        std::sort(entries.begin(), entries.end(),
                  [&](int64_t a, int64_t b) { return experts[a] < experts[b]; });
        float* out = y + token * sums.hidden_size;
        std::fill_n(out, sums.hidden_size, 0.0F);
        for (const int64_t entry : entries) {
            const int node = node_of_expert[experts[entry]];
            const std::vector<float> part =
                returned_row(sums, plan, node, plan.places[node * plan.n_rows + entry]);
            for (int64_t i = 0; i < sums.hidden_size; ++i)
                out[i] += weights[entry] * part[static_cast<size_t>(i)];
        }
    }
}

}  // namespace mixserve::kernels
