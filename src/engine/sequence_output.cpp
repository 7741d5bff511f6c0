#include "engine/sequence_output.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace mixserve::engine {
namespace {

// Ids that a model has and its tokenizer does not (padding of the vocabulary) have no text.
bool has_text(const text::Tokenizer& tokenizer, int32_t token) {
    return tokenizer.id_to_token(token).has_value();
}

// As it stands within a text, so that the texts of tokens, one after the other, are the whole.
std::string text_of(const text::Tokenizer& tokenizer, int32_t token) {
    if (!has_text(tokenizer, token)) return {};
    text::StreamDecoder decoder(tokenizer, false, true);
    const std::string text = decoder.push(token);
    return text + decoder.finish();
}

}  // namespace

SequenceOutput::SequenceOutput(const text::Tokenizer& tokenizer, const io::SamplingParams& params,
                               std::span<const int32_t> eos_ids, int64_t n_room)
    : tokenizer_(&tokenizer),
      params_(&params),
      ending_ids_(params.stop_token_ids),
      n_limit_(std::min(params.max_tokens, n_room)),
      decoder_(tokenizer, true, true),
      matcher_(params.stop, params.include_stop_str_in_output) {
    MIXSERVE_ASSERT(n_limit_ >= 1);
    if (!params.ignore_eos) ending_ids_.insert(ending_ids_.end(), eos_ids.begin(), eos_ids.end());
    std::sort(ending_ids_.begin(), ending_ids_.end());
    ending_ids_.erase(std::unique(ending_ids_.begin(), ending_ids_.end()), ending_ids_.end());
}

std::span<const int32_t> SequenceOutput::banned() const {
    if (n_tokens() >= params_->min_tokens) return {};
    return ending_ids_;
}

void SequenceOutput::push(const Sampled& sampled) {
    MIXSERVE_ASSERT(!finished());
    const int32_t token = sampled.token;
    choice_.token_ids.push_back(token);
    if (sampled.logprobs) {
        choice_.logprobs.push_back(with_texts(*tokenizer_, token, *sampled.logprobs));
        choice_.logprobs.back().text_offset = n_characters_;
    }
    const bool may_stop = n_tokens() >= params_->min_tokens;
    const bool ends = may_stop && std::binary_search(ending_ids_.begin(), ending_ids_.end(), token);
    if (ends && !params_->include_stop_str_in_output) return finish(io::FinishReason::stop);

    if (has_text(*tokenizer_, token)) {
        const std::string piece = decoder_.push(token);
        n_characters_ += n_characters(piece);
        matcher_.push(piece, may_stop);
    }
    if (may_stop && !matcher_.stopped()) look_into_held_text();
    choice_.text += matcher_.take();
    if (ends || matcher_.stopped()) return finish(io::FinishReason::stop);
    if (n_tokens() >= n_limit_) finish(io::FinishReason::length);
}

// Text that the decoder holds back is what the sequence would end with now: a stop string in it ends it.
void SequenceOutput::look_into_held_text() {
    if (params_->stop.empty()) return;
    const std::string held = decoder_.held();
    if (held.empty()) return;
    StopMatcher ahead = matcher_;
    ahead.push(held);
    if (ahead.stopped()) matcher_ = std::move(ahead);
}

void SequenceOutput::finish(io::FinishReason reason) {
    matcher_.push(decoder_.finish(), false);
    choice_.text += matcher_.finish();
    choice_.finish_reason = reason;
    finish_reason_ = reason;
}

io::Choice SequenceOutput::take_choice() {
    MIXSERVE_ASSERT(finished());
    return std::move(choice_);
}

io::PositionLogprobs with_texts(const text::Tokenizer& tokenizer, int32_t token, const Logprobs& logprobs) {
    io::PositionLogprobs position;
    position.chosen = {token, text_of(tokenizer, token), logprobs.logprob};
    position.rank = logprobs.rank;
    for (const IdLogprob& entry : logprobs.top)
        position.top.push_back({entry.token, text_of(tokenizer, entry.token), entry.logprob});
    return position;
}

}  // namespace mixserve::engine
