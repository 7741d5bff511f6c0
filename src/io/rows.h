#pragma once

#include <cstdint>
#include <string>

#include "io/result.h"

namespace mixserve::io {

/// What the rows of a job have in common.
struct RowContext {
    std::string model;  // of OpenAI objects
    int64_t created_unix_s = 0;
};

/// The row of a result in the form of its line, one line of JSON without the newline. Always valid UTF-8.
///
/// Simple: {"id","text","token_ids","finish_reason","usage","metrics"}; with n > 1 `text`, `token_ids` and
/// `finish_reason` are in "choices":[{"index","text","token_ids","finish_reason"}] instead. Where asked for,
/// beside token_ids
/// "logprobs":[{"token_id","token","logprob","rank","top":[{"token_id","token","logprob"}]}], one a token,
/// and in the row "prompt_logprobs":[null, the same...]. An error: {"id","error"}.
///
/// OpenAI batch: {"id","custom_id","response":{"status_code","request_id","body"},"error":null}, where the
/// body is a "text_completion" or "chat.completion" object with logprobs in the shape of its API. An error
/// has status code 400, the API's error object as body, and "error":{"code","message"}.
std::string row_of(const Result& result, const RowContext& context);

/// {"id","token_ids","logprobs":[null,...],"perplexity"}; an error: {"id","error"}.
std::string row_of(const ScoreResult& result);

}  // namespace mixserve::io
