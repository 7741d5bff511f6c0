#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mixserve::io {

/// As many tokens as the model's length leaves room for.
inline constexpr int64_t no_token_limit = std::numeric_limits<int64_t>::max();
/// Bounds of what one request may ask for, so that it cannot take all memory.
inline constexpr int64_t max_logprobs = 100;
inline constexpr int64_t max_samples = 16384;

/// How a request is sampled: the keys of vLLM and the OpenAI API. Defaults come from generation_config.json
/// and options.
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

    bool operator==(const SamplingParams&) const = default;
};

/// What is wrong with the values (ranges and contradictions), naming the key; nothing when all is well.
std::optional<std::string> problem_of(const SamplingParams& params);

/// What a line that does not say gets.
struct SamplingDefaults {
    SamplingParams params;              // all but max_tokens
    std::optional<int64_t> max_tokens;  // by default 16 for completions, and no_token_limit for chats
};

/// What a checkpoint's generation_config.json says about generation.
struct GenerationConfig {
    SamplingDefaults defaults;  // temperature, top_p, top_k, min_p, repetition_penalty, max_new_tokens;
                                // greedy with "do_sample": false
    std::vector<int32_t> eos_token_ids;
};

/// `text` may be empty: no such file. UsageError names a key of a wrong type or out of range. Keys of other
/// uses (beams, caches, output forms) are left out, as vLLM does.
GenerationConfig read_generation_config(std::string_view text);

}  // namespace mixserve::io
