#pragma once

#include <cstdint>
#include <vector>

#include "device/stream.h"

namespace mixserve::kernels {

/// A token whose logit the penalties change.
struct PenalisedToken {
    int32_t token = 0;
    int32_t n_output = 0;  // how often it has been generated; 0: it is in the prompt alone
};

/// How the token of one row of logits is drawn. What each number means is engine/sampler.h's.
struct RowSampling {
    int32_t row = 0;     // of the logits
    int32_t n_top = -1;  // most likely tokens to list, 0 to max_top_tokens; -1: no log-probabilities
    int32_t top_k = 0;   // 0: all
    float scale = 0;     // 1 / temperature; 0: the most likely token, of equals the lowest id
    double top_p = 1;
    double min_p_offset = 0;  // temperature * log(min_p); -infinity: no such bound
    double u = 0;             // the draw, in [0, 1)
    float repetition_penalty = 1;
    float frequency_penalty = 0;
    float presence_penalty = 0;
    int32_t first_penalised = 0;  // in SamplingBatch::penalised
    int32_t n_penalised = 0;
    int32_t first_banned = 0;  // in SamplingBatch::banned
    int32_t n_banned = 0;
    int32_t first_top = 0;  // in the list of tokens that comes out
};
inline constexpr int32_t max_top_tokens = 128;

/// Rows to be sampled together. The ids of one row's list differ and lie in the vocabulary.
struct SamplingBatch {
    std::vector<RowSampling> rows;
    std::vector<PenalisedToken> penalised;
    std::vector<int32_t> banned;
    int64_t n_top = 0;  // of all rows together
};

/// Logits in device memory, split by vocabulary: data [n_slices, n_rows, slice_width], slice s being part s
/// of the vocabulary (base/partition.h).
struct SlicedLogits {
    const float* data = nullptr;
    int64_t n_rows = 0;
    int64_t n_slices = 1;
    int64_t slice_width = 0;
    int64_t vocab_size = 0;
};
/// What sums of weights in 64 bits have room for.
inline constexpr int64_t max_sampled_vocab = 1 << 19;

/// What comes of a row.
struct RowSample {
    int32_t token = 0;
    /// Logits, as they came or after the penalties; where there are any, only the next two mean something.
    int32_t n_not_finite = 0;
    int32_t first_not_finite = 0;
    float not_finite = 0;
    float logprob = 0;  // of the token in the raw distribution, with n_top >= 0 ..
    int32_t rank = 0;   // .. and 1 + the number of tokens that are more likely
};
struct TopToken {
    int32_t token = 0;
    float logprob = 0;
};

/// Draws the token of each of batch.rows. Its twin on the CPU is engine::Sampler: the same rules in the same
/// order, and the same draw. What differs: weights are counted in units of 2^-44 of the largest, as integers,
/// so that sums are the same in whatever order threads add (and tokens of less weight than that never come),
/// and exp() is the GPU's. So a draw that falls within about 1e-6 of the border between two tokens may take
/// the other, as may a top_p that is reached that narrowly. On a GPU only; `out` [batch.rows.size()] and
/// `top` [batch.n_top] in device memory; vocab_size at most max_sampled_vocab.
void sample_rows(const SlicedLogits& logits, const SamplingBatch& batch, RowSample* out, TopToken* top,
                 device::Stream& stream);

}  // namespace mixserve::kernels
