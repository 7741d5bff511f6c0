#include "io/sampling_params.h"

#include <fmt/format.h>

#include "base/error.h"
#include "io/json_values.h"

namespace mixserve::io {
namespace {

// Comparisons are written so that NaN fails them.
std::optional<std::string> problem_of_numbers(const SamplingParams& p) {
    const auto out_of_range = [](std::string_view key, double value, std::string_view range) {
        return fmt::format("'{}' must be {}, but is {}", key, range, value);
    };
    if (!(p.temperature >= 0 && p.temperature <= 1e6))
        return out_of_range("temperature", p.temperature, "from 0 to 1e6");
    if (!(p.top_p > 0 && p.top_p <= 1)) return out_of_range("top_p", p.top_p, "above 0 and at most 1");
    if (!(p.min_p >= 0 && p.min_p <= 1)) return out_of_range("min_p", p.min_p, "from 0 to 1");
    if (!(p.presence_penalty >= -2 && p.presence_penalty <= 2))
        return out_of_range("presence_penalty", p.presence_penalty, "from -2 to 2");
    if (!(p.frequency_penalty >= -2 && p.frequency_penalty <= 2))
        return out_of_range("frequency_penalty", p.frequency_penalty, "from -2 to 2");
    if (!(p.repetition_penalty >= 1e-3 && p.repetition_penalty <= 1e3))
        return out_of_range("repetition_penalty", p.repetition_penalty, "from 0.001 to 1000");
    return std::nullopt;
}

std::optional<std::string> problem_of_counts(const SamplingParams& p) {
    const auto out_of_range = [](std::string_view key, int64_t value, std::string_view range) {
        return fmt::format("'{}' must be {}, but is {}", key, range, value);
    };
    if (p.max_tokens < 1) return out_of_range("max_tokens", p.max_tokens, "at least 1");
    if (p.min_tokens < 0) return out_of_range("min_tokens", p.min_tokens, "at least 0");
    if (p.min_tokens > p.max_tokens)
        return fmt::format("'min_tokens' ({}) exceeds 'max_tokens' ({})", p.min_tokens, p.max_tokens);
    if (p.top_k < -1) return out_of_range("top_k", p.top_k, "at least 1, or 0 or -1 for all tokens");
    if (p.n < 1 || p.n > max_samples) return out_of_range("n", p.n, fmt::format("from 1 to {}", max_samples));
    for (const auto& [key, value] :
         {std::pair{"logprobs", p.logprobs}, {"prompt_logprobs", p.prompt_logprobs}}) {
        if (value && (*value < 0 || *value > max_logprobs))
            return out_of_range(key, *value, fmt::format("from 0 to {}", max_logprobs));
    }
    return std::nullopt;
}

GenerationConfig read(const ordered_json& object) {
    GenerationConfig config;
    SamplingParams& params = config.defaults.params;
    const auto given = [&](const char* key) { return object.contains(key) && !object[key].is_null(); };
    const auto read_number = [&](const char* key, double& out) {
        if (given(key)) out = number_of(object[key], key);
    };
    read_number("temperature", params.temperature);
    read_number("top_p", params.top_p);
    read_number("min_p", params.min_p);
    read_number("repetition_penalty", params.repetition_penalty);
    if (given("top_k")) params.top_k = integer_of(object["top_k"], "top_k");
    if (given("max_new_tokens")) {
        params.max_tokens = integer_of(object["max_new_tokens"], "max_new_tokens");
        config.defaults.max_tokens = params.max_tokens;
    }
    if (given("do_sample") && !bool_of(object["do_sample"], "do_sample")) params.temperature = 0;
    if (given("eos_token_id")) {
        const ordered_json& ids = object["eos_token_id"];
        config.eos_token_ids =
            token_ids_of(ids.is_array() ? ids : ordered_json::array({ids}), "eos_token_id");
    }
    return config;
}

}  // namespace

std::optional<std::string> problem_of(const SamplingParams& params) {
    if (std::optional<std::string> problem = problem_of_numbers(params)) return problem;
    if (std::optional<std::string> problem = problem_of_counts(params)) return problem;
    for (const std::string& stop : params.stop) {
        if (stop.empty()) return "'stop' holds an empty text, which every output would end with";
    }
    return std::nullopt;
}

GenerationConfig read_generation_config(std::string_view text) {
    if (text.empty()) return {};
    try {
        const ordered_json object = ordered_json::parse(text);
        GenerationConfig config = read(object_of(object, "generation_config.json"));
        if (const auto problem = problem_of(config.defaults.params))
            fail_usage("generation_config.json: {}", *problem);
        return config;
    } catch (const ValueError& error) {
        fail_usage("generation_config.json: {}", error.what());
    } catch (const ordered_json::exception& error) {
        fail_usage("generation_config.json is no valid JSON: {}", error.what());
    }
}

}  // namespace mixserve::io
