#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "io/sampling_params.h"
#include "kernels/sampling.h"

namespace mixserve::engine {

/// Which tokens a sequence holds, for penalties. One a sequence, and only where has_penalties().
class TokenCounts {
  public:
    void add_prompt(std::span<const int32_t> tokens);
    void add_output(int32_t token) { ++n_output_[token]; }

    /// Repetition penalty over prompt and output, then frequency and presence penalties over the output, as
    /// vLLM orders them. Ids outside of `logits` are an Error.
    void penalise(std::span<float> logits, const io::SamplingParams& params) const;

    /// What penalise() would change, for the GPU; likewise.
    void list(size_t vocab_size, std::vector<kernels::PenalisedToken>& tokens) const;

  private:
    std::unordered_map<int32_t, int64_t> n_output_;  // of prompt and output tokens; 0: only in the prompt
};

bool has_penalties(const io::SamplingParams& params);

}  // namespace mixserve::engine
