#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/elementwise.h"
#include "model/pass.h"

namespace mixserve::model {
namespace {

/// Bytes of logits that are computed at a time. On a GPU alone they are not gathered, and each time costs a
/// reading of the head's weights: there, room for 256 rows of the largest vocabularies.
int64_t tile_bytes(const PassContext& c) {
    constexpr int64_t mib = 1 << 20;
    return (c.stream.gpu() != nullptr && c.group.size() == 1 ? 160 : 32) * mib;
}

}  // namespace

void LogitsTile::bring_to_host(std::span<const int64_t> rows) const {
    if (stream->gpu() == nullptr) return;
    const auto row_bytes = static_cast<size_t>(logits.slice_width) * sizeof(float);
    staging->reserve(static_cast<size_t>(logits.n_slices * logits.n_rows) * row_bytes,
                     device::Memory::pinned);
    for (int64_t slice = 0; slice < logits.n_slices; ++slice) {
        for (const int64_t row : rows) {
            const int64_t at = (slice * logits.n_rows + row) * logits.slice_width;
            stream->gpu()->copy_out(staging->as<float>().data() + at, logits.data + at, row_bytes);
        }
    }
    stream->gpu()->synchronize();
}

void LogitsTile::bring_to_host() const {
    std::vector<int64_t> rows(static_cast<size_t>(n_rows));
    std::iota(rows.begin(), rows.end(), 0);
    bring_to_host(rows);
}

void LogitsTile::copy_row(int64_t i, float* out) const {
    const float* data = stream->gpu() != nullptr ? staging->as<float>().data() : logits.data;
    for (int64_t slice = 0; slice < logits.n_slices; ++slice) {
        const Range range = partition(logits.vocab_size, logits.n_slices, slice);
        std::copy_n(data + (slice * logits.n_rows + i) * logits.slice_width, range.size(), out + range.begin);
    }
}

int64_t rows_a_tile(const PassContext& c) {
    const int64_t row_bytes = c.config.vocab_size * static_cast<int64_t>(sizeof(float));
    return std::max<int64_t>(tile_bytes(c) / row_bytes, 1);
}

void compute_logits(const PassContext& c, const Batch& batch, const StepInputs& inputs, Activations& a,
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

    const int64_t n_slices = c.group.size();
    const int64_t slice_width = partition(c.config.vocab_size, n_slices, 0).size();
    const int64_t n_wanted = static_cast<int64_t>(batch.logit_rows.size());
    const int64_t n_used = n_wanted - batch.n_padding;

    // The wanted rows leave the gather buffer before the first tile is gathered into it.
    a.logit_input.reserve(static_cast<size_t>(n_wanted * hidden) * sizeof(float), c.stream.memory());
    float* input = a.logit_input.as<float>().data();
    kernels::gather_rows(normed, hidden, inputs.logit_rows, input, c.stream);
    for (int64_t first = 0; first < n_wanted; first += rows_a_tile(c)) {
        const int64_t n = std::min(rows_a_tile(c), n_wanted - first);
        float* slices = c.group.start_gather(n_slices, n * slice_width);
        kernels::linear(input + first * hidden, hidden, n, c.weights.lm_head_weight, nullptr,
                        slices + c.group.rank() * n * slice_width, slice_width, c.stream);
        const float* all = c.group.finish_gather();
        use({first,
             std::min(n, n_used - first),
             {all, n, n_slices, slice_width, c.config.vocab_size},
             &c.stream,
             &a.logits});
    }
}

}  // namespace mixserve::model
