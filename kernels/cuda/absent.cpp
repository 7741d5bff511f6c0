// What a build without CUDA has in place of the GPU's operations. No stream has a GPU there, so nothing
// reaches them.

#include "base/error.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/library_product.h"

namespace mixserve::kernels::cuda {
namespace {

[[noreturn]] void fail_absent() {
    fail("this build has no CUDA");
}

}  // namespace

void rms_norm(const float*, int64_t, int64_t, int64_t, const float*, float, float*, int64_t,
              device::Stream&) {
    fail_absent();
}
void norm_heads(float*, int64_t, int64_t, const HeadNorm&, device::Stream&) {
    fail_absent();
}
void sum_of_squares(const float*, int64_t, int64_t, int64_t, float*, int64_t, device::Stream&) {
    fail_absent();
}
void scale_by_sums(float*, int64_t, int64_t, const SummedNorm&, device::Stream&) {
    fail_absent();
}
void clip(float*, int64_t, float, device::Stream&) {
    fail_absent();
}
void apply_rope(float*, int64_t, int64_t, int64_t, int64_t, const int32_t*, const float*, const float*,
                device::Stream&) {
    fail_absent();
}
void silu_mul(const float*, const float*, int64_t, float*, device::Stream&) {
    fail_absent();
}
void add(const float*, int64_t, float*, device::Stream&) {
    fail_absent();
}
void add_gated(const float*, const float*, int64_t, int64_t, float*, device::Stream&) {
    fail_absent();
}
void embed_rows(const Weight&, int64_t, const int32_t*, int64_t, float*, device::Stream&) {
    fail_absent();
}
void gather_rows(const float*, int64_t, const int32_t*, int64_t, float*, device::Stream&) {
    fail_absent();
}
void route_top_k(const float*, int64_t, int64_t, int64_t, bool, int32_t*, float*, const int32_t*,
                 device::Stream&) {
    fail_absent();
}
void count_choices(const int32_t*, int64_t, int64_t, int64_t*, device::Stream&) {
    fail_absent();
}
void linear(const float*, int64_t, int64_t, const Weight&, const float*, float*, int64_t, bool,
            device::Stream&) {
    fail_absent();
}
void expert_mlp(const float*, int64_t, const ExpertRows&, const ExpertWeights&, float*, device::Stream&) {
    fail_absent();
}
void expert_mlp_routed(const float*, int64_t, const ChosenExperts&, const ExpertWeights&, float*,
                       device::Stream&) {
    fail_absent();
}
void plan_nodes(const int32_t*, int64_t, const int32_t*, const NodePlan&, device::Stream&) {
    fail_absent();
}
void pack_records(const RowSource&, const NodePlan&, const RecordFormat&, int, int, int64_t, std::byte*,
                  int64_t, device::Stream&) {
    fail_absent();
}
void unpack_records(const std::byte*, int64_t, const RecordFormat&, float*, int32_t*, float*,
                    device::Stream&) {
    fail_absent();
}
void sum_ranks(const RankParts&, int64_t, float*, bool, device::Stream&) {
    fail_absent();
}
void sum_ranks_to_wire(const RankParts&, int64_t, int64_t, WireType, std::byte*, device::Stream&) {
    fail_absent();
}
void add_node_sums(const ReturnedSums&, const NodePlan&, float*, device::Stream&) {
    fail_absent();
}
void add_weighted_sums(const ReturnedSums&, const NodePlan&, const int32_t*, const float*, int64_t,
                       const int32_t*, float*, device::Stream&) {
    fail_absent();
}
void store_kv(const float*, const float*, int64_t, const AttentionPlan&, const KvCache&, device::Stream&) {
    fail_absent();
}
void paged_attention(const float*, int64_t, int64_t, float, int64_t, const AttentionPlan&, const KvCache&,
                     float*, device::Stream&) {
    fail_absent();
}

void sample_rows(const SlicedLogits&, const SamplingBatch&, RowSample*, TopToken*, device::Stream&) {
    fail_absent();
}

bool has_library_products(const char** why) {
    if (why != nullptr) *why = "this build has no CUDA";
    return false;
}
void library_product(const void*, int64_t, const Weight&, float*, int64_t, device::Stream&) {
    fail_absent();
}

}  // namespace mixserve::kernels::cuda
