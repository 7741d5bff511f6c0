#include "io/sampling_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "io/json_values.h"

namespace mixserve::io {
namespace {

struct Key {
    std::string_view name;
    void (*read)(const ordered_json& value, std::string_view key, SamplingParams& params);
};

template <double SamplingParams::*field>
void read_number(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.*field = number_of(value, key);
}

template <int64_t SamplingParams::*field>
void read_integer(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.*field = integer_of(value, key);
}

template <bool SamplingParams::*field>
void read_flag(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.*field = bool_of(value, key);
}

void read_seed(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.seed = unsigned_of(value, key);
}

void read_stop(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.stop.clear();
    if (!value.is_array()) {
        params.stop.push_back(text_of(value, key));
        return;
    }
    for (const ordered_json& item : value)
        params.stop.push_back(text_of(item, key));
}

void read_stop_token_ids(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.stop_token_ids = token_ids_of(value, key);
}

void read_prompt_logprobs(const ordered_json& value, std::string_view key, SamplingParams& params) {
    params.prompt_logprobs = integer_of(value, key);
}

void leave(const ordered_json&, std::string_view, SamplingParams&) {}

constexpr std::array keys{
    Key{"max_tokens", read_integer<&SamplingParams::max_tokens>},
    Key{"max_completion_tokens", read_integer<&SamplingParams::max_tokens>},
    Key{"min_tokens", read_integer<&SamplingParams::min_tokens>},
    Key{"temperature", read_number<&SamplingParams::temperature>},
    Key{"top_p", read_number<&SamplingParams::top_p>},
    Key{"top_k", read_integer<&SamplingParams::top_k>},
    Key{"min_p", read_number<&SamplingParams::min_p>},
    Key{"presence_penalty", read_number<&SamplingParams::presence_penalty>},
    Key{"frequency_penalty", read_number<&SamplingParams::frequency_penalty>},
    Key{"repetition_penalty", read_number<&SamplingParams::repetition_penalty>},
    Key{"seed", read_seed},
    Key{"n", read_integer<&SamplingParams::n>},
    Key{"stop", read_stop},
    Key{"stop_token_ids", read_stop_token_ids},
    Key{"include_stop_str_in_output", read_flag<&SamplingParams::include_stop_str_in_output>},
    Key{"ignore_eos", read_flag<&SamplingParams::ignore_eos>},
    Key{"prompt_logprobs", read_prompt_logprobs},
    Key{"logprobs", leave},
    Key{"top_logprobs", leave},
};

constexpr auto key_names = [] {
    std::array<std::string_view, keys.size()> names;
    std::transform(keys.begin(), keys.end(), names.begin(), [](const Key& key) { return key.name; });
    return names;
}();

const ordered_json* given(const ordered_json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace

std::span<const std::string_view> sampling_keys() {
    return key_names;
}

bool read_sampling_key(std::string_view key, const ordered_json& value, SamplingParams& params) {
    const auto* found = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == key; });
    if (found == keys.end()) return false;
    found->read(value, key, params);
    return true;
}

void read_logprobs(const ordered_json& object, RequestForm form, SamplingParams& params) {
    const ordered_json* logprobs = given(object, "logprobs");
    const ordered_json* top = given(object, "top_logprobs");
    if (top != nullptr && !is_chat(form))
        throw ValueError("'top_logprobs' belongs to chats; a completion gives the number as 'logprobs'");

    const bool takes_flag = is_chat(form);
    const bool takes_number = form != RequestForm::batch_chat;
    if (logprobs != nullptr && takes_number && !(takes_flag && logprobs->is_boolean())) {
        if (top != nullptr) throw ValueError("'top_logprobs' needs 'logprobs' to be true");
        params.logprobs = integer_of(*logprobs, "logprobs");
        return;
    }
    const bool wanted = logprobs != nullptr ? bool_of(*logprobs, "logprobs") : params.logprobs.has_value();
    if (top != nullptr && !wanted) throw ValueError("'top_logprobs' needs 'logprobs' to be true");
    if (logprobs != nullptr) params.logprobs = wanted ? std::optional<int64_t>(0) : std::nullopt;
    if (top != nullptr) params.logprobs = integer_of(*top, "top_logprobs");
}

}  // namespace mixserve::io
