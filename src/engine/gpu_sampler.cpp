#include "engine/gpu_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "engine/log_softmax.h"

namespace mixserve::engine {

bool GpuSampler::add(const SampleInput& input, int64_t row) {
    const io::SamplingParams& params = input.params;
    const auto n_banned = static_cast<int64_t>(input.banned.size());
    if (vocab_size_ > kernels::max_sampled_vocab || n_banned >= vocab_size_) return false;
    static_assert(io::max_logprobs <= kernels::max_top_tokens);

    kernels::RowSampling r;
    r.row = static_cast<int32_t>(row);
    r.n_top = static_cast<int32_t>(params.logprobs.value_or(-1));
    r.first_top = static_cast<int32_t>(batch_.n_top);
    batch_.n_top += std::max(r.n_top, 0);
    if (params.temperature >= greedy_temperature) {
        r.scale = static_cast<float>(1 / params.temperature);
        r.top_k = params.top_k > 0 && params.top_k < vocab_size_ ? static_cast<int32_t>(params.top_k) : 0;
        r.top_p = params.top_p;
        r.min_p_offset = params.min_p > 0 ? params.temperature * std::log(params.min_p)
                                          : -std::numeric_limits<double>::infinity();
        r.u = uniform(input.key);
    }
    r.first_penalised = static_cast<int32_t>(batch_.penalised.size());
    if (has_penalties(params)) {
        require(input.counts != nullptr, "penalties need the counts of a sequence's tokens");
        r.repetition_penalty = static_cast<float>(params.repetition_penalty);
        r.frequency_penalty = static_cast<float>(params.frequency_penalty);
        r.presence_penalty = static_cast<float>(params.presence_penalty);
        input.counts->list(static_cast<size_t>(vocab_size_), batch_.penalised);
        r.n_penalised = static_cast<int32_t>(batch_.penalised.size()) - r.first_penalised;
    }
    r.first_banned = static_cast<int32_t>(batch_.banned.size());
    r.n_banned = static_cast<int32_t>(n_banned);
    for (const int32_t id : input.banned) {
        require(id >= 0 && id < vocab_size_, "token id {} is out of range: the vocabulary has {} tokens", id,
                vocab_size_);
        batch_.banned.push_back(id);
    }
    batch_.rows.push_back(r);
    return true;
}

void GpuSampler::enqueue(const kernels::SlicedLogits& logits) {
    if (batch_.rows.empty()) return;
    if (n_tiles_ == tiles_.size()) tiles_.emplace_back();
    Tile& tile = tiles_[n_tiles_++];
    tile.top_at = batch_.rows.size() * sizeof(kernels::RowSample);
    const size_t n_bytes = tile.top_at + static_cast<size_t>(batch_.n_top) * sizeof(kernels::TopToken);
    tile.on_gpu.grow(n_bytes, device::Memory::device);  // memory that moves makes recorded steps stale
    tile.pinned.grow(n_bytes, device::Memory::pinned);
    kernels::sample_rows(logits, batch_, tile.on_gpu.as<kernels::RowSample>().data(),
                         reinterpret_cast<kernels::TopToken*>(tile.on_gpu.data() + tile.top_at), stream_);
    stream_.gpu()->copy_out(tile.pinned.data(), tile.on_gpu.data(), n_bytes);
    tile.rows = std::exchange(batch_, {}).rows;
}

std::vector<Sampled> GpuSampler::finish() {
    std::vector<Sampled> all;
    if (n_tiles_ == 0) return all;
    stream_.gpu()->synchronize();
    for (size_t t = 0; t < n_tiles_; ++t) {
        for (size_t i = 0; i < tiles_[t].rows.size(); ++i)
            all.push_back(result_of(tiles_[t], i));
    }
    n_tiles_ = 0;
    return all;
}

Sampled GpuSampler::result_of(const Tile& tile, size_t i) const {
    const kernels::RowSample& sample = tile.pinned.as<kernels::RowSample>()[i];
    if (sample.n_not_finite > 0) {
        fail_not_finite(sample.n_not_finite, static_cast<size_t>(vocab_size_), sample.not_finite,
                        sample.first_not_finite);
    }
    Sampled sampled{sample.token, {}};
    const kernels::RowSampling& row = tile.rows[i];
    if (row.n_top < 0) return sampled;
    Logprobs& logprobs = sampled.logprobs.emplace();
    logprobs.logprob = sample.logprob;
    logprobs.rank = sample.rank;
    const auto* top = reinterpret_cast<const kernels::TopToken*>(tile.pinned.data() + tile.top_at);
    const int64_t n_top = std::min<int64_t>(row.n_top, vocab_size_);
    for (int64_t j = 0; j < n_top; ++j)
        logprobs.top.push_back({top[row.first_top + j].token, top[row.first_top + j].logprob});
    return sampled;
}

}  // namespace mixserve::engine
