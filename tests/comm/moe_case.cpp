#include "comm/moe_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace mixserve::comm::test {
namespace {

uint64_t mix(uint64_t value) {  // the finaliser of SplitMix64
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

uint64_t mix(int64_t a, int64_t b, int64_t c, int64_t d) {
    uint64_t value = mix(static_cast<uint64_t>(a));
    for (const int64_t next : {b, c, d})
        value = mix(value ^ static_cast<uint64_t>(next));
    return value;
}

/// In [-1, 1).
float uniform(int64_t a, int64_t b, int64_t c, int64_t d) {
    return static_cast<float>(static_cast<int64_t>(mix(a, b, c, d) >> 40) - (1 << 23)) /
           static_cast<float>(1 << 23);
}

enum Matrix : int64_t {
    gate_matrix = 1,
    up_matrix = 2,
    down_matrix = 3,
    token_matrix = 4,
    gate_weights = 5,
    routes = 6
};

float gate_weight_of(const MoeCase& moe, int64_t token, int64_t j) {
    return moe.gate_weight ? moe.gate_weight(token, j) : 0.6F + 0.5F * uniform(gate_weights, token, j, 0);
}

std::vector<int32_t> first_distinct(const MoeCase& moe, const std::function<int64_t(int64_t)>& draw) {
    std::vector<int32_t> experts;
    for (int64_t i = 0; static_cast<int64_t>(experts.size()) < moe.k; ++i) {
        auto expert = static_cast<int32_t>(draw(i) % moe.num_experts);
        while (std::find(experts.begin(), experts.end(), expert) != experts.end()) {
            expert = static_cast<int32_t>((expert + 1) % moe.num_experts);
        }
        experts.push_back(expert);
    }
    return experts;
}

}  // namespace

std::vector<int32_t> route_uniform(const MoeCase& moe, int64_t token) {
    return first_distinct(moe,
                          [&](int64_t i) { return static_cast<int64_t>(mix(routes, token, i, 0) >> 1); });
}

std::vector<int32_t> route_skewed(const MoeCase& moe, int64_t token) {
    return first_distinct(moe, [&](int64_t i) {
        const double u = 0.5 + 0.5 * uniform(routes, token, i, 1);
        return static_cast<int64_t>(u * u * u * u * static_cast<double>(moe.num_experts));
    });
}

std::vector<int32_t> route_fixed(const MoeCase& moe, int64_t first) {
    return first_distinct(moe, [&](int64_t i) { return first + i; });
}

WeightShare make_weights(const MoeCase& moe, const ExpertPlacement& placement) {
    const Range columns =
        partition(moe.intermediate_size, placement.intermediate_parts, placement.intermediate_part);
    WeightShare share;
    const auto size = static_cast<size_t>(placement.experts.size() * columns.size() * moe.hidden_size);
    for (auto* matrix : {&share.gate, &share.up, &share.down})
        matrix->reserve(size);
    for (int64_t e = placement.experts.begin; e < placement.experts.end; ++e) {
        for (int64_t i = columns.begin; i < columns.end; ++i) {
            for (int64_t h = 0; h < moe.hidden_size; ++h) {
                share.gate.push_back(uniform(gate_matrix, e, i, h));
                share.up.push_back(uniform(up_matrix, e, i, h));
                share.down.push_back(uniform(down_matrix, e, i, h));
            }
        }
    }
    share.view = {.gate = share.gate.data(),
                  .up = share.up.data(),
                  .down = share.down.data(),
                  .dtype = DType::f32,
                  .n_experts = placement.experts.size(),
                  .hidden_size = moe.hidden_size,
                  .intermediate_size = columns.size()};
    return share;
}

Rows run_layer(Exchange& exchange, const MoeCase& moe, const kernels::ExpertWeights& weights,
               const std::vector<int64_t>& tokens, device::Stream& stream) {
    std::vector<float> x;
    std::vector<int32_t> experts;
    std::vector<float> gate;
    for (const int64_t token : tokens) {
        for (int64_t h = 0; h < moe.hidden_size; ++h)
            x.push_back(uniform(token_matrix, token, h, 0));
        for (const int32_t expert : moe.route(token))
            experts.push_back(expert);
        for (int64_t j = 0; j < moe.k; ++j)
            gate.push_back(gate_weight_of(moe, token, j));
    }
    std::vector<float> y(x.size(), std::numeric_limits<float>::quiet_NaN());
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    exchange.begin_step(n_tokens);
    if (stream.gpu() == nullptr) {
        exchange.forward(x.data(), {n_tokens, moe.k, experts, gate}, weights, y.data());
    } else {
        const device::Buffer device_x = place(x, stream);
        const device::Buffer device_gate = place(gate, stream);
        device::Buffer device_y = place(y, stream);
        device::Buffer device_experts(experts.size() * sizeof(int32_t), device::Memory::device);
        stream.upload(device_experts.data(), experts.data(), device_experts.size());
        exchange.forward(
            device_x.as<float>().data(),
            {n_tokens, moe.k, std::as_const(device_experts).as<int32_t>(), device_gate.as<float>()}, weights,
            device_y.as<float>().data());
        stream.gpu()->copy_out(y.data(), device_y.data(), device_y.size());
        stream.gpu()->synchronize();
    }
    Rows rows;
    for (size_t t = 0; t < tokens.size(); ++t) {
        const auto begin = y.begin() + static_cast<int64_t>(t) * moe.hidden_size;
        rows[tokens[t]] = {begin, begin + moe.hidden_size};
    }
    return rows;
}

kernels::ExpertWeights place_weights(const WeightShare& share, device::Stream& stream,
                                     std::vector<device::Buffer>& memory) {
    kernels::ExpertWeights view = share.view;
    if (stream.gpu() == nullptr) return view;
    for (const auto& [matrix, pointer] :
         {std::pair{&share.gate, &view.gate}, {&share.up, &view.up}, {&share.down, &view.down}}) {
        memory.push_back(place(*matrix, stream));
        *pointer = memory.back().data();
    }
    return view;
}

std::vector<float> reference_row(const MoeCase& moe, int64_t token) {
    std::vector<double> sum(static_cast<size_t>(moe.hidden_size), 0.0);
    const std::vector<int32_t> experts = moe.route(token);
    for (int64_t j = 0; j < moe.k; ++j) {
        const int64_t e = experts[static_cast<size_t>(j)];
        for (int64_t i = 0; i < moe.intermediate_size; ++i) {
            double gate = 0;
            double up = 0;
            for (int64_t h = 0; h < moe.hidden_size; ++h) {
                const double x = uniform(token_matrix, token, h, 0);
                gate += x * uniform(gate_matrix, e, i, h);
                up += x * uniform(up_matrix, e, i, h);
            }
            const double product = gate_weight_of(moe, token, j) * gate / (1 + std::exp(-gate)) * up;
            for (int64_t h = 0; h < moe.hidden_size; ++h) {
                sum[static_cast<size_t>(h)] += product * uniform(down_matrix, e, i, h);
            }
        }
    }
    return {sum.begin(), sum.end()};
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    double largest = 0;
    double difference = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return std::numeric_limits<double>::infinity();
        largest = std::max(largest, static_cast<double>(std::fabs(b[i])));
        difference = std::max(difference, static_cast<double>(std::fabs(a[i] - b[i])));
    }
    if (difference == 0) return 0;
    return difference / largest;
}

}  // namespace mixserve::comm::test
