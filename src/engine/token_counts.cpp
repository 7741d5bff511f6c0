#include "engine/token_counts.h"

#include "base/error.h"

namespace mixserve::engine {

void TokenCounts::add_prompt(std::span<const int32_t> tokens) {
    for (const int32_t token : tokens)
        n_output_.try_emplace(token, 0);
}

namespace {

void check_token(int32_t token, size_t vocab_size) {
    require(token >= 0 && static_cast<size_t>(token) < vocab_size,
            "token id {} is out of range: the vocabulary has {} tokens", token, vocab_size);
}

}  // namespace

void TokenCounts::list(size_t vocab_size, std::vector<kernels::PenalisedToken>& tokens) const {
    for (const auto& [token, n] : n_output_) {
        check_token(token, vocab_size);
        tokens.push_back({token, static_cast<int32_t>(n)});
    }
}

void TokenCounts::penalise(std::span<float> logits, const io::SamplingParams& params) const {
    const auto repetition = static_cast<float>(params.repetition_penalty);
    for (const auto& [token, n] : n_output_) {
        check_token(token, logits.size());
        float& logit = logits[static_cast<size_t>(token)];
        logit = logit > 0 ? logit / repetition : logit * repetition;
        if (n == 0) continue;
        logit -= static_cast<float>(params.frequency_penalty) * static_cast<float>(n);
        logit -= static_cast<float>(params.presence_penalty);
    }
}

bool has_penalties(const io::SamplingParams& params) {
    return params.repetition_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0;
}

}  // namespace mixserve::engine
