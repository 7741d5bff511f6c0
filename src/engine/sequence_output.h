#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "engine/stop_matcher.h"
#include "io/result.h"
#include "text/tokenizer.h"

namespace mixserve::engine {

/// What one sample of a request has generated, and whether it goes on. The caller draws a token, pushes it,
/// and asks; when it has finished, choice() is what the row needs.
class SequenceOutput {
  public:
    /// `tokenizer` and `params` are borrowed. `eos_ids`: of the model; unused with ignore_eos. `n_room`:
    /// tokens that the model's length leaves after the prompt, at least 1.
    SequenceOutput(const text::Tokenizer& tokenizer, const io::SamplingParams& params,
                   std::span<const int32_t> eos_ids, int64_t n_room);

    /// Tokens that must not come next: those that end the sequence, while fewer than min_tokens have come.
    std::span<const int32_t> banned() const;

    /// The next token; not after finished().
    void push(const Sampled& sampled);

    bool finished() const { return finish_reason_.has_value(); }
    int64_t n_tokens() const { return static_cast<int64_t>(choice_.token_ids.size()); }
    std::span<const int32_t> token_ids() const { return choice_.token_ids; }
    /// Moves the result out. Only after finished(), once.
    io::Choice take_choice();

  private:
    void look_into_held_text();
    void finish(io::FinishReason reason);

    const text::Tokenizer* tokenizer_;
    const io::SamplingParams* params_;
    std::vector<int32_t> ending_ids_;  // end of sequence and stop tokens, sorted
    int64_t n_limit_;
    text::StreamDecoder decoder_;
    StopMatcher matcher_;
    int64_t n_characters_ = 0;  // decoded so far
    io::Choice choice_;
    std::optional<io::FinishReason> finish_reason_;
};

/// A position's log-probabilities with the tokens' texts.
io::PositionLogprobs with_texts(const text::Tokenizer& tokenizer, int32_t token, const Logprobs& logprobs);

}  // namespace mixserve::engine
