#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "comm/exchange.h"

namespace mixserve::comm::test {

/// A MoE layer whose weights, tokens and routing are functions of their indices, so that every rank can make
/// what it holds and any token can be put anywhere.
struct MoeCase {
    int64_t hidden_size = 24;
    int64_t intermediate_size = 10;
    int64_t num_experts = 8;
    int64_t k = 2;
    /// The experts of a token, all different.
    std::function<std::vector<int32_t>(int64_t token)> route;
    /// The gate weight of the j-th expert of a token; by default any positive number.
    std::function<float(int64_t token, int64_t j)> gate_weight;
};

std::vector<int32_t> route_uniform(const MoeCase& moe, int64_t token);
/// Experts of low numbers are chosen far more often.
std::vector<int32_t> route_skewed(const MoeCase& moe, int64_t token);
/// Experts first, first + 1, ... for every token.
std::vector<int32_t> route_fixed(const MoeCase& moe, int64_t first);

/// The tokens that each rank of the world owns.
using Ownership = std::vector<std::vector<int64_t>>;

/// A rank's share of the weights, and the views on it.
struct WeightShare {
    std::vector<float> gate, up, down;
    kernels::ExpertWeights view;
};
WeightShare make_weights(const MoeCase& moe, const ExpertPlacement& placement);

/// Token -> output row, of this rank's tokens. With a GPU in the stream all but the result is there.
using Rows = std::map<int64_t, std::vector<float>>;
Rows run_layer(Exchange& exchange, const MoeCase& moe, const kernels::ExpertWeights& weights,
               const std::vector<int64_t>& tokens, device::Stream& stream);
/// The weights where the stream computes; `memory` holds them if that is a GPU.
kernels::ExpertWeights place_weights(const WeightShare& share, device::Stream& stream,
                                     std::vector<device::Buffer>& memory);

/// The layer's output for one token, in double precision, straight from the definition.
std::vector<float> reference_row(const MoeCase& moe, int64_t token);

/// Largest |a - b| over the largest |b|; infinite when a size differs or a value is not finite.
double relative_error(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace mixserve::comm::test
