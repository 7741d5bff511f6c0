#include <algorithm>

#include "kernels/elementwise.h"
#include "model/pass.h"

namespace mixserve::model {
namespace {

/// A tile of logits where the host can read it.
const float* on_the_host(const float* logits, int64_t n, Activations& a, device::Stream& stream) {
    if (stream.gpu() == nullptr) return logits;
    const size_t n_bytes = static_cast<size_t>(n) * sizeof(float);
    a.logits.reserve(n_bytes, device::Memory::pinned);
    stream.gpu()->copy_out(a.logits.data(), logits, n_bytes);
    stream.gpu()->synchronize();
    return a.logits.as<float>().data();
}

}  // namespace

void LogitsTile::copy_row(int64_t i, float* out) const {
    for (int64_t slice = 0; slice < n_slices; ++slice) {
        const Range range = partition(vocab_size, n_slices, slice);
        std::copy_n(data + (slice * n_rows + i) * slice_width, range.size(), out + range.begin);
    }
}

void compute_logits(const PassContext& c, const Batch& batch, Activations& a,
                    const std::function<void(const LogitsTile& tile)>& use) {
    if (batch.logit_rows.empty()) return;
    const PhaseScope phase(c.timer, Phase::logits);
    const int64_t hidden = c.config.hidden_size;
    const int64_t n_tokens = batch.n_tokens();
    const Range owned = c.group.owned(n_tokens);
    float* rows = c.group.start_gather(n_tokens, hidden);
    kernels::rms_norm(a.x.as<float>().data(), hidden, owned.size(), hidden, c.weights.final_norm.data(),
                      static_cast<float>(c.config.rms_norm_eps), rows + owned.begin * hidden, hidden,
                      c.stream);
    const float* normed = c.group.finish_gather();

    constexpr int64_t tile_bytes = 32 << 20;
    const int64_t n_slices = c.group.size();
    const int64_t slice_width = partition(c.config.vocab_size, n_slices, 0).size();
    const int64_t n_wanted = static_cast<int64_t>(batch.logit_rows.size());
    const int64_t rows_a_tile = std::clamp<int64_t>(
        tile_bytes / (c.config.vocab_size * static_cast<int64_t>(sizeof(float))), 1, n_wanted);

    // The wanted rows leave the gather buffer before the first tile is gathered into it.
    a.logit_input.reserve(static_cast<size_t>(n_wanted * hidden) * sizeof(float), c.stream.memory());
    float* input = a.logit_input.as<float>().data();
    const StepNumbers numbers = place_numbers(batch, a, c.stream);
    kernels::gather_rows(normed, hidden, numbers.logit_rows, input, c.stream);
    for (int64_t first = 0; first < n_wanted; first += rows_a_tile) {
        const int64_t n = std::min(rows_a_tile, n_wanted - first);
        float* slices = c.group.start_gather(n_slices, n * slice_width);
        kernels::linear(input + first * hidden, hidden, n, c.weights.lm_head_weight, nullptr,
                        slices + c.group.rank() * n * slice_width, slice_width, c.stream);
        const float* all = on_the_host(c.group.finish_gather(), n_slices * n * slice_width, a, c.stream);
        use({first, n, all, slice_width, n_slices, c.config.vocab_size});
    }
}

}  // namespace mixserve::model
