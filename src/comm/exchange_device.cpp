#include <vector>

#include "comm/exchange_parts.h"

namespace mixserve::comm {
namespace {

size_t float_bytes(int64_t n) {
    return static_cast<size_t>(n) * sizeof(float);
}

/// One rank with a GPU holds all experts: nothing leaves the GPU.
class LocalExchange final : public Exchange {
  public:
    explicit LocalExchange(const ExchangeSetup& setup) : setup_(setup) {}

    void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                 float* y) override {
        if (setup_.skip_products) return;
        const PhaseScope products(setup_.timer, Phase::experts);
        kernels::expert_mlp(
            x, routing.n_tokens,
            kernels::ChosenExperts{routing.experts.data(), routing.weights.data(), routing.k, 0}, weights, y,
            setup_.stream);
    }
    int64_t internode_bytes_sent() const override { return 0; }

  private:
    const ExchangeSetup setup_;
};

/// An exchange in the host's memory, between ranks with GPUs: tokens and routing come out, sums go in, and
/// the products, which run_experts() stages, run on the GPU.
class StagedExchange final : public Exchange {
  public:
    StagedExchange(std::unique_ptr<Exchange> host, const ExchangeSetup& setup)
        : host_(std::move(host)), setup_(setup) {}

    void forward(const float* x, const Routing& routing, const kernels::ExpertWeights& weights,
                 float* y) override {
        const PhaseScope dispatch(setup_.timer, Phase::dispatch);
        device::GpuQueue& gpu = *setup_.stream.gpu();
        const int64_t n = routing.n_tokens * setup_.hidden_size;
        x_.resize(static_cast<size_t>(n));
        y_.resize(x_.size());
        experts_.resize(routing.experts.size());
        weights_.resize(routing.weights.size());
        gpu.copy_out(x_.data(), x, float_bytes(n));
        gpu.copy_out(experts_.data(), routing.experts.data(), routing.experts.size_bytes());
        gpu.copy_out(weights_.data(), routing.weights.data(), routing.weights.size_bytes());
        gpu.synchronize();
        host_->forward(x_.data(), {routing.n_tokens, routing.k, experts_, weights_}, weights, y_.data());
        setup_.stream.upload(y, y_.data(), float_bytes(n));
    }
    int64_t internode_bytes_sent() const override { return host_->internode_bytes_sent(); }

  private:
    std::unique_ptr<Exchange> host_;
    const ExchangeSetup setup_;
    std::vector<float> x_, y_, weights_;
    std::vector<int32_t> experts_;
};

}  // namespace

std::unique_ptr<Exchange> make_local_exchange(const ExchangeSetup& setup) {
    return std::make_unique<LocalExchange>(setup);
}

std::unique_ptr<Exchange> make_staged_exchange(std::unique_ptr<Exchange> host, const ExchangeSetup& setup) {
    return std::make_unique<StagedExchange>(std::move(host), setup);
}

void run_staged_experts(const ExchangeSetup& setup, const float* x, int64_t n_rows,
                        const kernels::ExpertRows& rows, const kernels::ExpertWeights& weights, float* out) {
    device::Stream& stream = setup.stream;
    const size_t n_bytes = float_bytes(n_rows * setup.hidden_size);
    auto* device_x =
        reinterpret_cast<float*>(stream.device_scratch(device::ScratchSlot::staging_in, n_bytes));
    auto* device_out =
        reinterpret_cast<float*>(stream.device_scratch(device::ScratchSlot::staging_out, n_bytes));
    stream.upload(device_x, x, n_bytes);
    kernels::expert_mlp(device_x, n_rows, rows, weights, device_out, stream);
    while (!stream.gpu()->is_idle())
        stream.poll();  // the exchange goes on beside the products
    stream.gpu()->copy_out(out, device_out, n_bytes);
    stream.gpu()->synchronize();
}

}  // namespace mixserve::comm
