#pragma once

#include <cstddef>
#include <cstdint>

#include "device/stream.h"
#include "kernels/wire.h"

/// What an exchange between ranks with GPUs does to rows before and after they travel. All pointers are in
/// stream.memory(); on the CPU these are the references that the GPU's kernels are tested against.
namespace mixserve::kernels {

/// Which rows go to which node, in device memory: row r is routed to the nodes of its k experts, once to
/// each.
struct NodePlan {
    int64_t n_rows = 0;
    int n_nodes = 0;
    int32_t* rows = nullptr;    // [n_nodes, n_rows]: a node's rows, rising; as many as counts says
    int32_t* places = nullptr;  // [n_nodes, n_rows]: where row r is among them; -1: nowhere
    int32_t* counts = nullptr;  // [n_nodes, 2]: rows, and their experts on that node
};

/// Fills plan's arrays. experts [n_rows, k]; node_of_expert [num_experts].
void plan_nodes(const int32_t* experts, int64_t k, const int32_t* node_of_expert, const NodePlan& plan,
                device::Stream& stream);

/// A row as it travels: its values as `type` has them, then, at a multiple of 4 bytes, k gate weights (f32)
/// and k experts (int32, -1: none), then up to a multiple of 16 bytes.
struct RecordFormat {
    WireType type = WireType::f32;
    int64_t hidden_size = 0;
    int64_t k = 0;

    int64_t weights_offset() const { return (wire_row_bytes(type, hidden_size) + 3) / 4 * 4; }
    int64_t record_bytes() const { return (weights_offset() + 8 * k + 15) / 16 * 16; }
};

/// Where pack_records() takes rows from: row r is row r / rows_per_token of x.
struct RowSource {
    const float* x = nullptr;  // [n_rows / rows_per_token, hidden_size]
    int64_t rows_per_token = 1;
    const int32_t* experts = nullptr;  // [n_rows, k]
    const float* weights = nullptr;    // [n_rows, k]; null: all 1
};

/// records [n_nodes, n_records] <- the rows of nodes [first_node, first_node + n_nodes), each node's message
/// `message_bytes` after the one before. A message with more records than the node has rows is filled up with
/// records of zeros, without experts.
void pack_records(const RowSource& source, const NodePlan& plan, const RecordFormat& format, int first_node,
                  int n_nodes, int64_t n_records, std::byte* records, int64_t message_bytes,
                  device::Stream& stream);

/// x [n_records, hidden_size], experts and weights [n_records, k] <- records.
void unpack_records(const std::byte* records, int64_t n_records, const RecordFormat& format, float* x,
                    int32_t* experts, float* weights, device::Stream& stream);

/// The partial sums of each rank of a group: part r lies at others + r * stride, the own one at `own`.
struct RankParts {
    const float* own = nullptr;
    const float* others = nullptr;
    int64_t stride = 0;  // values
    int own_rank = 0;
    int n_ranks = 1;
};

/// out [n] <- the sum of the parts, by rising rank, or += with `accumulate`.
void sum_ranks(const RankParts& parts, int64_t n, float* out, bool accumulate, device::Stream& stream);
/// The same of [n_rows, hidden_size], as it travels, rows back to back.
void sum_ranks_to_wire(const RankParts& parts, int64_t n_rows, int64_t hidden_size, WireType type,
                       std::byte* wire, device::Stream& stream);

/// The sums that came back from all nodes: node b's begin b * rows_per_node rows in, or, where that is
/// negative, after those of the nodes before (as plan.counts has them); in the order of plan.rows.
struct ReturnedSums {
    const std::byte* wire = nullptr;
    WireType type = WireType::f32;
    int64_t hidden_size = 0;
    int64_t rows_per_node = -1;
};

/// y [plan.n_rows, hidden_size] <- each row's sums added by rising node.
void add_node_sums(const ReturnedSums& sums, const NodePlan& plan, float* y, device::Stream& stream);

/// y [n_tokens, hidden_size] <- where plan's rows are single (token, expert) pairs, k to a token: a token's
/// sums times their weights, added by rising expert. experts, weights [n_tokens, k].
void add_weighted_sums(const ReturnedSums& sums, const NodePlan& plan, const int32_t* experts,
                       const float* weights, int64_t k, const int32_t* node_of_expert, float* y,
                       device::Stream& stream);

}  // namespace mixserve::kernels
