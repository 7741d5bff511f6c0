#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mixserve::io {

/// How a request is sampled: the keys of vLLM and the OpenAI API. Defaults come from generation_config.json and options.
struct SamplingParams {
    int64_t max_tokens = 16;
    int64_t min_tokens = 0;
    double temperature = 1.0;  // 0: greedy
    double top_p = 1.0;
    int64_t top_k = 0;  // 0: all
    double min_p = 0.0;
    double presence_penalty = 0.0;
    double frequency_penalty = 0.0;
    double repetition_penalty = 1.0;
    std::optional<uint64_t> seed;
    int64_t n = 1;
    std::vector<std::string> stop;
    std::vector<int32_t> stop_token_ids;
    bool include_stop_str_in_output = false;
    bool ignore_eos = false;
    std::optional<int64_t> logprobs;         // most likely tokens to list at each generated position
    std::optional<int64_t> prompt_logprobs;  // the same for the prompt
};

}  // namespace mixserve::io
