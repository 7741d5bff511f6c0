#pragma once

#include <cstdint>

#include "base/partition.h"
#include "device/stream.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/experts.h"
#include "kernels/linear.h"
#include "kernels/packing.h"
#include "kernels/sampling.h"

/// The operations of kernels/*.h on a GPU, with the same arguments, which lie in device memory: what the
/// public functions call when the stream has a GPU. They enqueue and return.
namespace mixserve::kernels::cuda {

void rms_norm(const float* x, int64_t x_stride, int64_t n_rows, int64_t width, const float* weight,
              float epsilon, float* out, int64_t out_stride, device::Stream& stream);
void norm_heads(float* qkv, int64_t stride, int64_t n_rows, const HeadNorm& norm, device::Stream& stream);
void sum_of_squares(const float* x, int64_t stride, int64_t n_rows, int64_t width, float* sums,
                    int64_t sums_stride, device::Stream& stream);
void scale_by_sums(float* x, int64_t stride, int64_t n_rows, const SummedNorm& norm, device::Stream& stream);
void clip(float* x, int64_t n, float bound, device::Stream& stream);
void apply_rope(float* x, int64_t stride, int64_t n_heads, int64_t head_dim, int64_t n_rows,
                const int32_t* positions, const float* cos, const float* sin, device::Stream& stream);
void silu_mul(const float* gate, const float* up, int64_t n, float* out, device::Stream& stream);
void add(const float* x, int64_t n, float* y, device::Stream& stream);
void add_gated(const float* x, const float* gate, int64_t n_rows, int64_t width, float* out,
               device::Stream& stream);
void embed_rows(const Weight& table, int64_t first_token, const int32_t* tokens, int64_t n_rows, float* out,
                device::Stream& stream);
void gather_rows(const float* x, int64_t width, const int32_t* rows, int64_t n_rows, float* out,
                 device::Stream& stream);

void route_top_k(const float* logits, int64_t n_rows, int64_t n_experts, int64_t k, bool renormalize,
                 int32_t* experts, float* weights, const int32_t* n_used, device::Stream& stream);

void count_choices(const int32_t* experts, int64_t n, int64_t n_experts, int64_t* counts,
                   device::Stream& stream);

/// With `exact`, x keeps 16 bits of mantissa in products with 16-bit weights whatever the number of rows.
void linear(const float* x, int64_t x_stride, int64_t n_rows, const Weight& weight, const float* bias,
            float* y, int64_t y_stride, bool exact, device::Stream& stream);

/// `rows` in host memory, as the exchanges make it.
void expert_mlp(const float* x, int64_t n_rows, const ExpertRows& rows, const ExpertWeights& weights,
                float* out, device::Stream& stream);
void expert_mlp_routed(const float* x, int64_t n_rows, const ChosenExperts& chosen,
                       const ExpertWeights& weights, float* out, device::Stream& stream);

void plan_nodes(const int32_t* experts, int64_t k, const int32_t* node_of_expert, const NodePlan& plan,
                device::Stream& stream);
void pack_records(const RowSource& source, const NodePlan& plan, const RecordFormat& format, int first_node,
                  int n_nodes, int64_t n_records, std::byte* records, int64_t message_bytes,
                  device::Stream& stream);
void unpack_records(const std::byte* records, int64_t n_records, const RecordFormat& format, float* x,
                    int32_t* experts, float* weights, device::Stream& stream);
void sum_ranks(const RankParts& parts, int64_t n, float* out, bool accumulate, device::Stream& stream);
void sum_ranks_to_wire(const RankParts& parts, int64_t n_rows, int64_t hidden_size, WireType type,
                       std::byte* wire, device::Stream& stream);
void add_node_sums(const ReturnedSums& sums, const NodePlan& plan, float* y, device::Stream& stream);
void add_weighted_sums(const ReturnedSums& sums, const NodePlan& plan, const int32_t* experts,
                       const float* weights, int64_t k, const int32_t* node_of_expert, float* y,
                       device::Stream& stream);

void store_kv(const float* keys, const float* values, int64_t stride, const AttentionPlan& plan,
              const KvCache& cache, device::Stream& stream);
void paged_attention(const float* q, int64_t q_stride, int64_t n_heads, float scale, int64_t sliding_window,
                     const AttentionPlan& plan, const KvCache& cache, float* out, device::Stream& stream);

void sample_rows(const SlicedLogits& logits, const SamplingBatch& batch, RowSample* out, TopToken* top,
                 device::Stream& stream);

}  // namespace mixserve::kernels::cuda
