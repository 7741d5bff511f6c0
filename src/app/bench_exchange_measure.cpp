#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "app/bench_exchange.h"
#include "app/timing.h"
#include "comm/collectives.h"
#include "device/buffer.h"

namespace mixserve::app {
namespace {

/// What the ranks own: the same tokens under every strategy.
struct Tokens {
    int64_t n_tokens = 0;
    std::vector<float> x;          // [n_tokens, hidden_size]
    std::vector<int32_t> experts;  // [n_tokens, k]
    std::vector<float> weights;    // [n_tokens, k]
};

Tokens make_tokens(const ExchangeShape& shape, const comm::Topology& topology) {
    std::mt19937_64 random(static_cast<uint64_t>(topology.world.rank()) + 1);
    Tokens tokens;
    tokens.n_tokens = partition(shape.num_tokens, topology.ranks_per_node, topology.node_rank).size();
    std::normal_distribution<float> normal;
    tokens.x.resize(static_cast<size_t>(tokens.n_tokens * shape.hidden_size));
    for (float& value : tokens.x)
        value = normal(random);

    std::vector<double> popularity;
    for (int64_t e = 0; e < shape.num_experts; ++e) {
        popularity.push_back(std::pow(static_cast<double>(e + 1), -shape.zipf_exponent));
    }
    std::discrete_distribution<int32_t> choose(popularity.begin(), popularity.end());
    std::uniform_real_distribution<float> gate(0.05F, 0.2F);
    const int64_t k = shape.num_experts_per_tok;
    const int64_t n_traced = static_cast<int64_t>(shape.routing_trace.size()) / k;
    const int64_t first_traced = partition(n_traced, topology.world.size(), topology.world.rank()).begin;
    for (int64_t t = 0; t < tokens.n_tokens; ++t) {
        std::vector<int32_t> chosen;
        if (n_traced > 0) {
            const auto at = shape.routing_trace.begin() + (first_traced + t) % n_traced * k;
            chosen.assign(at, at + k);
        }
        while (static_cast<int64_t>(chosen.size()) < k) {
            int32_t expert = choose(random);
            while (std::find(chosen.begin(), chosen.end(), expert) != chosen.end()) {
                expert = static_cast<int32_t>((expert + 1) % shape.num_experts);
            }
            chosen.push_back(expert);
        }
        for (const int32_t expert : chosen) {
            tokens.experts.push_back(expert);
            tokens.weights.push_back(gate(random));
        }
    }
    return tokens;
}

/// The same where the stream computes.
struct PlacedTokens {
    device::Buffer x, experts, weights;
    comm::Routing routing;

    PlacedTokens(const Tokens& tokens, int64_t k, device::Stream& stream)
        : x(place(tokens.x, stream)),
          experts(tokens.experts.size() * sizeof(int32_t), stream.memory()),
          weights(place(tokens.weights, stream)) {
        if (stream.gpu() != nullptr) {
            stream.upload(experts.data(), tokens.experts.data(), experts.size());
        } else {
            std::copy(tokens.experts.begin(), tokens.experts.end(), experts.as<int32_t>().begin());
        }
        routing = {tokens.n_tokens, k, std::as_const(experts).as<int32_t>(),
                   std::as_const(weights).as<float>()};
    }
};

/// Weights are a function of their place in the whole matrix, so that every strategy computes the same layer.
class Weights {
  public:
    Weights(const ExchangeShape& shape, const comm::ExpertPlacement& placement, device::Stream& stream) {
        const Range columns =
            partition(shape.intermediate_size, placement.intermediate_parts, placement.intermediate_part);
        std::mt19937 random(1);
        std::vector<float> table(65537);
        std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(shape.hidden_size)));
        for (float& value : table)
            value = normal(random);
        const int64_t n_values = placement.experts.size() * columns.size() * shape.hidden_size;
        std::array<const void*, 3> places{};
        for (size_t m = 0; m < matrices_.size(); ++m) {
            matrices_[m] = device::Buffer(static_cast<size_t>(n_values * size_of(shape.dtype)));
            int64_t at = 0;
            for (int64_t e = placement.experts.begin; e < placement.experts.end; ++e) {
                for (int64_t i = columns.begin; i < columns.end; ++i) {
                    for (int64_t h = 0; h < shape.hidden_size; ++h, ++at) {
                        const auto key = static_cast<size_t>(
                            (static_cast<int64_t>(m) * 977 + e * 7919 + i * 131 + h * 17));
                        store(shape.dtype, m, at, table[key % table.size()]);
                    }
                }
            }
            if (stream.gpu() != nullptr) {
                device::Buffer on_gpu(matrices_[m].size(), device::Memory::device);
                stream.gpu()->copy_in(on_gpu.data(), matrices_[m].data(), on_gpu.size());
                stream.gpu()->synchronize();
                matrices_[m] = std::move(on_gpu);
            }
            places[m] = matrices_[m].data();
        }
        view_ = {places[0],         places[1],     places[2], shape.dtype, placement.experts.size(),
                 shape.hidden_size, columns.size()};
    }
    const kernels::ExpertWeights& view() const { return view_; }

  private:
    void store(DType dtype, size_t matrix, int64_t at, float value) {
        if (dtype == DType::f32) {
            matrices_[matrix].as<float>()[static_cast<size_t>(at)] = value;
        } else {
            matrices_[matrix].as<uint16_t>()[static_cast<size_t>(at)] = f32_to_bf16(value);
        }
    }

    std::array<device::Buffer, 3> matrices_;
    kernels::ExpertWeights view_;
};

/// One strategy: the exchange alone, and with the products.
struct Candidate {
    Candidate(comm::Strategy which, Weights its_weights) : strategy(which), weights(std::move(its_weights)) {}

    comm::Strategy strategy;
    Weights weights;
    std::unique_ptr<comm::Exchange> alone;
    std::unique_ptr<comm::Exchange> layer;
    device::Buffer placed_y;
    std::vector<float> y;
    std::vector<double> alone_s, layer_s, bytes_s, pieces_s, two_messages_s;
    std::array<double, n_phases> phases_s{};
    int64_t bytes_sent = 0;
};

/// The bare bytes of a candidate, shared out evenly between the other nodes' ranks of this lane; over NCCL
/// where the exchange goes over it.
class BareBytes {
  public:
    BareBytes(const comm::Topology& topology, const BackendChoice& backend) : topology_(topology) {
        if (backend.transport != comm::GpuTransport::nccl || topology.n_nodes == 1) return;
        gpus_.emplace(topology.lane, "bare bytes");
        queue_.emplace();
    }

    void prepare(int64_t bytes_sent) {
        const int n_peers = topology_.n_nodes - 1;
        const std::vector<int64_t> sent = topology_.lane.all_gather(bytes_sent);
        to_.assign(sent.size(), n_peers == 0 ? 0 : bytes_sent / n_peers);
        from_.clear();
        int64_t total = 0;
        for (const int64_t bytes : sent) {
            from_.push_back(n_peers == 0 ? 0 : bytes / n_peers);
            total += from_.back();
        }
        if (static_cast<int64_t>(received_.size()) < total) received_.resize(static_cast<size_t>(total));
        if (sent_.size() < received_.size()) sent_.resize(received_.size());
        if (gpus_) {
            gpu_sent_.reserve(sent_.size(), device::Memory::device);
            gpu_received_.reserve(received_.size(), device::Memory::device);
        }
        half_to_ = to_;
        half_from_ = from_;
        for (int64_t& bytes : half_to_)
            bytes /= 2;
        for (int64_t& bytes : half_from_)
            bytes /= 2;
    }
    void in_messages_of(int64_t n_bytes) {
        if (gpus_) return exchange_on_gpus(to_, from_);
        comm::exchange_bytes(to_, from_, n_bytes, sent_, received_, topology_.lane);
    }
    void in_two() {
        for (int i = 0; i < 2; ++i) {
            if (gpus_) {
                exchange_on_gpus(half_to_, half_from_);
            } else {
                comm::exchange_bytes(half_to_, half_from_, whole, sent_, received_, topology_.lane);
            }
        }
    }
    static constexpr int64_t whole = int64_t{1} << 30;

  private:
    void exchange_on_gpus(const std::vector<int64_t>& to, const std::vector<int64_t>& from) {
        std::vector<comm::GpuCommunicator::Outgoing> sends;
        std::vector<comm::GpuCommunicator::Incoming> receives;
        std::byte* at = gpu_received_.data();
        for (int r = 0; r < gpus_->size(); ++r) {
            const auto n_in = static_cast<size_t>(from[static_cast<size_t>(r)]);
            if (r != gpus_->rank()) {
                sends.push_back({r, gpu_sent_.data(), static_cast<size_t>(to[static_cast<size_t>(r)])});
                receives.push_back({r, at, n_in});
            }
            at += n_in;
        }
        gpus_->exchange(sends, receives, *queue_);
        queue_->synchronize();
    }

    const comm::Topology& topology_;
    std::optional<comm::GpuCommunicator> gpus_;
    std::optional<device::GpuQueue> queue_;
    device::Buffer gpu_sent_, gpu_received_;
    std::vector<int64_t> to_, from_, half_to_, half_from_;
    std::vector<std::byte> sent_, received_;
};

double largest_difference(const std::vector<float>& y, const std::vector<float>& reference,
                          const comm::Communicator& world) {
    std::vector<double> largest{0, 0};
    for (size_t i = 0; i < y.size(); ++i) {
        const double difference = std::fabs(static_cast<double>(y[i]) - reference[i]);
        // What is not a number counts as the worst difference.
        largest[0] = difference <= largest[0] ? largest[0] : (std::isfinite(difference) ? difference : 1e30);
        largest[1] = std::max(largest[1], static_cast<double>(std::fabs(reference[i])));
    }
    world.all_reduce(largest, comm::ReduceOp::max);
    return largest[1] > 0 ? largest[0] / largest[1] : largest[0];
}

}  // namespace

std::vector<ExchangeResult> measure_exchanges(const ExchangeShape& shape,
                                              const std::vector<comm::Strategy>& strategies, int repetitions,
                                              int threads, const BackendChoice& backend,
                                              const comm::Topology& topology) {
    device::Stream stream = backend.backend == device::Backend::cuda
                                ? device::Stream(threads, device::GpuQueue())
                                : device::Stream(threads);
    PhaseTimer timer;
    const Tokens tokens = make_tokens(shape, topology);
    const PlacedTokens placed(tokens, shape.num_experts_per_tok, stream);
    const auto run = [&](comm::Exchange& exchange, const kernels::ExpertWeights& weights, device::Buffer& y) {
        exchange.forward(placed.x.as<float>().data(), placed.routing, weights, y.as<float>().data());
        if (stream.gpu() != nullptr) stream.gpu()->synchronize();
    };

    std::vector<Candidate> candidates;
    for (const comm::Strategy strategy : strategies) {
        comm::ExchangeSetup setup{.topology = topology,
                                  .stream = stream,
                                  .timer = timer,
                                  .hidden_size = shape.hidden_size,
                                  .num_experts = shape.num_experts,
                                  .expert_split = shape.expert_split,
                                  .wire_type = shape.wire_type,
                                  .chunk_bytes = shape.chunk_bytes,
                                  .max_chunks_under_way = shape.max_chunks_under_way,
                                  .transport = backend.transport};
        const auto placement = comm::place_experts(strategy, shape.expert_split, topology, shape.num_experts);
        Candidate& candidate = candidates.emplace_back(strategy, Weights(shape, placement, stream));
        candidate.layer = comm::make_exchange(strategy, setup);
        setup.skip_products = true;
        candidate.alone = comm::make_exchange(strategy, setup);
        candidate.layer->begin_step(tokens.n_tokens);
        candidate.alone->begin_step(tokens.n_tokens);
        candidate.y.resize(tokens.x.size());
        candidate.placed_y = device::Buffer(tokens.x.size() * sizeof(float), stream.memory());
    }

    BareBytes bare(topology, backend);
    constexpr int n_warm_ups = 2;
    for (int i = 0; i < n_warm_ups + repetitions; ++i) {
        for (Candidate& candidate : candidates) {
            const int64_t before = candidate.alone->internode_bytes_sent();
            const double alone_s = slowest_s(
                topology.world, [&] { run(*candidate.alone, candidate.weights.view(), candidate.placed_y); });
            candidate.bytes_sent = candidate.alone->internode_bytes_sent() - before;
            timer.take();
            const double layer_s = slowest_s(
                topology.world, [&] { run(*candidate.layer, candidate.weights.view(), candidate.placed_y); });
            const std::array<double, n_phases> phases_s = timer.take();
            bare.prepare(candidate.bytes_sent);
            const double bytes_s = slowest_s(topology.world, [&] { bare.in_messages_of(BareBytes::whole); });
            const double pieces_s =
                slowest_s(topology.world, [&] { bare.in_messages_of(shape.chunk_bytes); });
            const double two_messages_s = slowest_s(topology.world, [&] { bare.in_two(); });
            if (i < n_warm_ups) continue;
            candidate.alone_s.push_back(alone_s);
            candidate.layer_s.push_back(layer_s);
            candidate.bytes_s.push_back(bytes_s);
            candidate.pieces_s.push_back(pieces_s);
            for (size_t p = 0; p < phases_s.size(); ++p)
                candidate.phases_s[p] += phases_s[p];
            candidate.two_messages_s.push_back(two_messages_s);
        }
    }

    for (Candidate& candidate : candidates) {
        const size_t n_bytes = candidate.placed_y.size();
        if (stream.gpu() != nullptr) {
            stream.gpu()->copy_out(candidate.y.data(), candidate.placed_y.data(), n_bytes);
            stream.gpu()->synchronize();
        } else if (n_bytes > 0) {
            std::memcpy(candidate.y.data(), candidate.placed_y.data(), n_bytes);
        }
    }
    std::vector<ExchangeResult> results;
    for (const Candidate& candidate : candidates) {
        std::array<double, n_phases> phases_ms = candidate.phases_s;
        topology.world.all_reduce(phases_ms, comm::ReduceOp::sum);
        for (double& ms : phases_ms)
            ms *= 1e3 / (repetitions * topology.world.size());
        std::vector<int64_t> bytes{candidate.bytes_sent};
        topology.world.all_reduce(bytes, comm::ReduceOp::sum);
        results.push_back(
            {std::string(comm::name(candidate.strategy)), 1e3 * median(candidate.alone_s),
             1e3 * median(candidate.layer_s), bytes[0],
             bytes[0] == 0 ? 0 : 1e3 * std::min(median(candidate.bytes_s), median(candidate.pieces_s)),
             bytes[0] == 0 ? 0 : 1e3 * median(candidate.two_messages_s), phases_ms,
             largest_difference(candidate.y, candidates.front().y, topology.world)});
    }
    return results;
}

}  // namespace mixserve::app
