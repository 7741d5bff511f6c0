#include <gtest/gtest.h>
#include <mpi.h>

#include <map>
#include <string>

#include "comm/moe_case.h"

// What MPI is asked to make and to give back, counted through MPI's profiling interface.
namespace {

std::map<std::string, int64_t>& open_objects() {
    static std::map<std::string, int64_t> counts;
    return counts;
}

void count_completed(int n) {
    open_objects()["requests"] -= n;
}

}  // namespace

extern "C" {

int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request* request) {
    ++open_objects()["requests"];
    return PMPI_Isend(data, count, type, to, tag, comm, request);
}
int MPI_Irecv(void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request* request) {
    ++open_objects()["requests"];
    return PMPI_Irecv(data, count, type, from, tag, comm, request);
}
int MPI_Testsome(int n, MPI_Request* requests, int* n_completed, int* indices, MPI_Status* statuses) {
    const int code = PMPI_Testsome(n, requests, n_completed, indices, statuses);
    if (code == MPI_SUCCESS && *n_completed != MPI_UNDEFINED) count_completed(*n_completed);
    return code;
}
int MPI_Waitall(int n, MPI_Request* requests, MPI_Status* statuses) {
    count_completed(n);
    return PMPI_Waitall(n, requests, statuses);
}
int MPI_Win_allocate_shared(MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm, void* base,
                            MPI_Win* window) {
    ++open_objects()["windows"];
    return PMPI_Win_allocate_shared(size, unit, info, comm, base, window);
}
int MPI_Win_free(MPI_Win* window) {
    --open_objects()["windows"];
    return PMPI_Win_free(window);
}
int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm* made) {
    ++open_objects()["communicators"];
    return PMPI_Comm_split(comm, color, key, made);
}
int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* made) {
    ++open_objects()["communicators"];
    return PMPI_Comm_split_type(comm, type, key, info, made);
}
int MPI_Comm_free(MPI_Comm* comm) {
    --open_objects()["communicators"];
    return PMPI_Comm_free(comm);
}
int MPI_Type_contiguous(int count, MPI_Datatype type, MPI_Datatype* made) {
    ++open_objects()["datatypes"];
    return PMPI_Type_contiguous(count, type, made);
}
int MPI_Type_free(MPI_Datatype* type) {
    --open_objects()["datatypes"];
    return PMPI_Type_free(type);
}

}  // extern "C"

namespace mixserve::comm::test {
namespace {

struct Variant {
    std::string name;
    Strategy strategy;
    ExpertSplit split;
    WireType wire_type;
    int n_layers;
};

class ManyLayers : public testing::TestWithParam<Variant> {};

/// Uneven tokens, few or none or many, new each layer.
std::vector<int64_t> tokens_of(int layer, int rank) {
    static constexpr int64_t sizes[] = {0, 1, 3, 0, 17, 2, 64};
    std::vector<int64_t> tokens;
    const int64_t n = sizes[(layer * 5 + rank * 3 + layer / 7) % 7];
    for (int64_t t = 0; t < n; ++t)
        tokens.push_back(layer * 1000 + rank * 100 + t);
    return tokens;
}

TEST_P(ManyLayers, InARowAreRightAndLeaveNothingOpen) {
    const Variant& variant = GetParam();
    const int n_ranks = Communicator::world().size();
    MoeCase moe{
        .hidden_size = 20, .intermediate_size = 6, .num_experts = 12, .k = 3, .route = {}, .gate_weight = {}};
    moe.route = [moe](int64_t token) {
        return token % 3 == 0 ? route_skewed(moe, token) : route_uniform(moe, token);
    };
    const auto before = open_objects();
    std::map<std::string, int64_t> in_between;
    {
        const Topology topology = make_topology(n_ranks > 2 ? n_ranks / 2 : 1);
        device::Stream stream(1);
        PhaseTimer timer;
        const WeightShare share =
            make_weights(moe, place_experts(variant.strategy, variant.split, topology, moe.num_experts));
        const auto exchange = make_exchange(variant.strategy, {.topology = topology,
                                                               .stream = stream,
                                                               .timer = timer,
                                                               .hidden_size = moe.hidden_size,
                                                               .num_experts = moe.num_experts,
                                                               .expert_split = variant.split,
                                                               .wire_type = variant.wire_type,
                                                               .chunk_bytes = 400,
                                                               .max_chunks_under_way = 3});
        const double tolerance = variant.wire_type == WireType::f32 ? 2e-5 : 6e-2;
        for (int layer = 0; layer < variant.n_layers; ++layer) {
            for (const auto& [token, row] :
                 run_layer(*exchange, moe, share.view, tokens_of(layer, topology.world.rank()), stream)) {
                if (token % 11 != 0) continue;
                const double error = relative_error(row, reference_row(moe, token));
                EXPECT_TRUE(error <= tolerance) << "layer " << layer << ", token " << token << ": " << error;
            }
            if (layer == variant.n_layers / 4) in_between = open_objects();
        }
        // Nothing piles up from layer to layer, and no request is under way between layers.
        EXPECT_EQ(open_objects(), in_between);
        EXPECT_EQ(open_objects()["requests"], 0);
    }
    for (const auto& [what, count] : open_objects()) {
        const auto was = before.find(what);
        EXPECT_EQ(count, was == before.end() ? 0 : was->second) << what << " left open";
    }
}

std::string name_of(const testing::TestParamInfo<Variant>& info) {
    return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(
    All, ManyLayers,
    testing::Values(Variant{"Fused", Strategy::fused, ExpertSplit::tensor, WireType::f32, 1000},
                    Variant{"FusedInt8", Strategy::fused, ExpertSplit::expert, WireType::int8, 300},
                    Variant{"TpEp", Strategy::tp_ep, ExpertSplit::tensor, WireType::f32, 200},
                    Variant{"DpEp", Strategy::dp_ep, ExpertSplit::expert, WireType::f32, 200},
                    Variant{"Tp", Strategy::tp, ExpertSplit::tensor, WireType::f32, 200}),
    name_of);

}  // namespace
}  // namespace mixserve::comm::test
