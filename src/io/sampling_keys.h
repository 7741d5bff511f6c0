#pragma once

#include <span>
#include <string_view>

#include "base/json.h"
#include "io/request.h"

namespace mixserve::io {

/// Names of all sampling keys.
std::span<const std::string_view> sampling_keys();

/// Takes `key` into `params` if it is one of the sampling keys, else returns false. ValueError for a wrong
/// type; ranges are problem_of()'s. The keys of log-probabilities are left to read_logprobs().
bool read_sampling_key(std::string_view key, const ordered_json& value, SamplingParams& params);

/// `logprobs` and `top_logprobs` of `object`: a number for completions, a flag with a number beside it for
/// chats; lines that are not OpenAI's may have either.
void read_logprobs(const ordered_json& object, RequestForm form, SamplingParams& params);

}  // namespace mixserve::io
