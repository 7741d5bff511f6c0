#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/request.h"

namespace mixserve::io {

/// A token with its text (valid UTF-8: U+FFFD where the token holds a part of a character only).
struct TokenLogprob {
    int32_t token = 0;
    std::string text;
    float logprob = 0;  // of the raw distribution, natural
    bool operator==(const TokenLogprob&) const = default;
};

/// What the model thought at one position.
struct PositionLogprobs {
    TokenLogprob chosen;
    int64_t rank = 1;               // of the chosen token; 1: the most likely
    std::vector<TokenLogprob> top;  // the most likely, best first
    int64_t text_offset = 0;        // characters (code points) of the choice's text before the token's
    bool operator==(const PositionLogprobs&) const = default;
};

enum class FinishReason : uint8_t { stop, length };

/// One of a request's n samples.
struct Choice {
    std::string text;                // without the stop string, unless it was asked for
    std::vector<int32_t> token_ids;  // all that were generated, an end-of-sequence token included
    FinishReason finish_reason = FinishReason::length;
    std::vector<PositionLogprobs> logprobs;  // one a token, where asked for
};

/// Times of a request, on the clock of the rank that served it.
struct RequestMetrics {
    double ttft_ms = 0;           // from its arrival in the engine to its first token
    double e2e_ms = 0;            // to its last
    std::vector<float> itl_ms{};  // between tokens that follow each other; of all samples
    double itl_ms_mean() const;   // 0 without any
};

/// A finished request: all that its row and the summary need.
struct Result {
    int64_t line = 0;
    std::string id;
    bool id_is_number = false;
    RequestForm form = RequestForm::completion;
    bool wants_logprobs = false;                    // the row lists them
    std::vector<Choice> choices;                    // one a sample, in order; empty with `error`
    bool wants_prompt_logprobs = false;             // the row lists them
    std::vector<PositionLogprobs> prompt_logprobs;  // of the prompt's tokens but the first, which has none
    int64_t n_prompt_tokens = 0;
    RequestMetrics metrics;
    std::optional<std::string> error;

    int64_t n_completion_tokens() const;
};

/// A result of `request` that its choices and metrics are yet to be put into; with its error, if it has one.
Result result_of(const Request& request);
/// An error that was found after parsing; the text gets the request's line in front.
Result error_result(const Request& request, const std::string& cause);

/// A scored line.
struct ScoreResult {
    int64_t line = 0;
    std::string id;
    bool id_is_number = false;
    std::vector<int32_t> token_ids;
    std::vector<float> logprobs;  // of the tokens but the first
    std::optional<std::string> error;

    double perplexity() const;  // exp of minus the mean; NaN without any
};
ScoreResult score_result_of(const Request& request);
ScoreResult score_error_result(const Request& request, const std::string& cause);

/// Results as a node's leader sends them to rank 0, and back.
std::vector<std::byte> pack(const Result& result);
Result unpack_result(std::span<const std::byte> bytes);
std::vector<std::byte> pack(const ScoreResult& result);
ScoreResult unpack_score_result(std::span<const std::byte> bytes);

}  // namespace mixserve::io
