#include "io/prompt_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/utf8.h"
#include "io/json_values.h"
#include "io/sampling_keys.h"

namespace mixserve::io {
namespace {

using Names = std::vector<std::string_view>;

void append(Names& names, std::initializer_list<std::string_view> more) {
    names.insert(names.end(), more.begin(), more.end());
}

[[noreturn]] void unknown_key(std::string_view key, const Names& known) {
    throw ValueError(fmt::format("unknown key {}{}", in_quotes(key), did_you_mean(key, known)));
}

const ordered_json* given(const ordered_json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

// The text of a JSON library's complaint without its own prefixes, which differ between versions.
std::string cause_of(const ordered_json::exception& error) {
    std::string_view text = error.what();
    for (const std::string_view prefix : {"] ", "syntax error ", ": "}) {
        const size_t at = text.find(prefix);
        if (at == std::string_view::npos || at > 60) continue;
        text.remove_prefix(prefix == "syntax error " ? at : at + prefix.size());
        if (prefix == "syntax error ") break;
    }
    const std::string clean = in_quotes(text, 200);
    return clean.substr(1, clean.size() - 2);
}

ordered_json parsed(std::string_view text, const PromptLimits& limits) {
    if (const auto bad = first_invalid_utf8(text))
        throw ValueError(fmt::format("invalid UTF-8 at byte {} (0x{:02X})", *bad + 1,
                                     static_cast<unsigned>(static_cast<unsigned char>(text[*bad]))));
    if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
        throw ValueError(fmt::format("bad JSON: a NUL byte at byte {}", nul + 1));
    if (json_depth(text) > limits.max_json_depth)
        throw ValueError(
            fmt::format("bad JSON: more than {} lists and objects in each other", limits.max_json_depth));
    try {
        ordered_json value = ordered_json::parse(text);
        if (!value.is_object())
            throw ValueError(fmt::format("a line must be a JSON object, not {}", described(value)));
        return value;
    } catch (const ordered_json::parse_error& error) {
        throw ValueError(fmt::format("bad JSON at byte {}: {}", error.byte, cause_of(error)));
    } catch (const ordered_json::exception& error) {
        throw ValueError(fmt::format("bad JSON: {}", cause_of(error)));
    }
}

// The line that is being parsed; what is read before an error stays in `request`.
struct LineParser {
    Request& request;
    const SamplingDefaults& defaults;
    const PromptLimits& limits;

    void parse(const ordered_json& object) {
        const Names batch_keys{"custom_id", "method", "url", "body"};
        const bool batch = std::any_of(batch_keys.begin(), batch_keys.end(), [&](std::string_view key) {
            return object.contains(std::string(key));
        });
        if (!batch) {
            request.form = given(object, "messages") != nullptr ? RequestForm::chat : RequestForm::completion;
            read_id(object, "id");
            read_body(object);
            return;
        }
        request.form = RequestForm::batch_completion;
        if (const ordered_json* url = given(object, "url"); url != nullptr && url->is_string()) {
            if (*url == "/v1/chat/completions") request.form = RequestForm::batch_chat;
        }
        read_id(object, "custom_id");
        for (const auto& [key, value] : object.items()) {
            if (std::find(batch_keys.begin(), batch_keys.end(), key) == batch_keys.end())
                unknown_key(key, batch_keys);
        }
        for (const char* key : {"custom_id", "method", "url", "body"}) {
            if (given(object, key) == nullptr) throw ValueError(fmt::format("'{}' is missing", key));
        }
        const std::string& method = text_of(object["method"], "method");
        if (method != "POST")
            throw ValueError(fmt::format("'method' must be POST, not {}", in_quotes(method)));
        const std::string& url = text_of(object["url"], "url");
        if (url != "/v1/completions" && url != "/v1/chat/completions")
            throw ValueError(
                fmt::format("'url' must be /v1/completions or /v1/chat/completions, not {}", in_quotes(url)));
        read_body(object_of(object["body"], "body"));
    }

    void read_id(const ordered_json& object, const char* key) {
        const ordered_json* value = given(object, key);
        if (value == nullptr) return;
        const bool number = !is_batch(request.form) && value->is_number_integer();
        const std::string id = number ? value->dump() : text_of(*value, key);
        if (id.empty()) throw ValueError(fmt::format("'{}' is empty", key));
        request.id = id;
        request.id_is_number = number;
    }

    void read_body(const ordered_json& body) {
        request.sampling = defaults.params;
        request.sampling.max_tokens =
            defaults.max_tokens.value_or(is_chat(request.form) ? no_token_limit : 16);
        const Names known = known_keys();
        for (const auto& [key, value] : body.items()) {
            if (std::find(known.begin(), known.end(), key) == known.end()) refuse_key(body, key, known);
            if (value.is_null()) continue;
            if (is_batch(request.form) && reads_as_inert(key, value)) continue;
            read_sampling_key(key, value, request.sampling);
        }
        if (given(body, "max_tokens") != nullptr && given(body, "max_completion_tokens") != nullptr)
            throw ValueError("'max_tokens' and 'max_completion_tokens' are the same; give one");
        read_logprobs(body, request.form, request.sampling);
        if (const auto problem = problem_of(request.sampling)) throw ValueError(*problem);
        check_vocabulary(request.sampling.stop_token_ids, "stop_token_ids");
        if (is_chat(request.form)) {
            read_chat(body);
        } else {
            read_prompt(body);
        }
    }

    Names known_keys() const {
        Names known(sampling_keys().begin(), sampling_keys().end());
        if (is_batch(request.form)) {
            append(known, {"model", "user", "metadata", "store", "stream", "stream_options", "echo", "suffix",
                           "best_of", "logit_bias", "response_format"});
        } else {
            append(known, {"id"});
        }
        if (is_chat(request.form)) {
            append(known, {"messages", "tools", "add_generation_prompt", "chat_template_kwargs"});
            if (!is_batch(request.form)) append(known, {"prompt"});
        } else {
            append(known, {"prompt"});
        }
        return known;
    }

    [[noreturn]] void refuse_key(const ordered_json& body, const std::string& key, const Names& known) const {
        if (key == "messages")
            throw ValueError(
                "a line for /v1/completions has 'prompt'; 'messages' goes to /v1/chat/completions");
        if (key == "prompt")
            throw ValueError(
                "a line for /v1/chat/completions has 'messages'; 'prompt' goes to /v1/completions");
        if (key == "add_generation_prompt" || key == "chat_template_kwargs" || key == "tools")
            throw ValueError(fmt::format("'{}' belongs to chats, and this line has no 'messages'", key));
        Names candidates = known;
        if (!is_chat(request.form) && given(body, "prompt") == nullptr) append(candidates, {"messages"});
        unknown_key(key, candidates);
    }

    // Keys of OpenAI's API that change nothing here, or nothing at the value that is given.
    static bool reads_as_inert(const std::string& key, const ordered_json& value) {
        if (key == "model" || key == "user" || key == "metadata" || key == "store" || key == "stream_options")
            return true;
        const auto only = [&](bool ok, std::string_view wanted) {
            if (!ok) throw ValueError(fmt::format("'{}' is supported only as {}", key, wanted));
            return true;
        };
        if (key == "stream" || key == "echo") return only(value == false, "false");
        if (key == "suffix") return only(value == "", "null");
        if (key == "best_of") return only(value == 1, "1");
        if (key == "logit_bias") return only(value == ordered_json::object(), "{}");
        if (key == "response_format")
            return only(value == ordered_json{{"type", "text"}}, R"({"type": "text"})");
        return false;
    }

    void check_vocabulary(const std::vector<int32_t>& ids, std::string_view key) const {
        if (!limits.vocab_size) return;
        for (size_t i = 0; i < ids.size(); ++i) {
            if (ids[i] >= *limits.vocab_size)
                throw ValueError(fmt::format(
                    "token id {} at place {} of '{}' is out of range: the vocabulary has {} tokens", ids[i],
                    i, key, *limits.vocab_size));
        }
    }

    void read_prompt(const ordered_json& body) {
        const ordered_json* prompt = given(body, "prompt");
        if (prompt == nullptr) {
            throw ValueError(is_batch(request.form) ? "'prompt' is missing"
                                                    : "neither 'prompt' nor 'messages' is there");
        }
        if (prompt->is_array()) {
            if (!prompt->empty() && (prompt->front().is_string() || prompt->front().is_array()))
                throw ValueError("'prompt' is a list of prompts; give each a line of its own");
            request.prompt_ids = token_ids_of(*prompt, "prompt");
            request.prompt_is_ids = true;
            check_vocabulary(request.prompt_ids, "prompt");
        } else if (prompt->is_string()) {
            request.prompt = prompt->get_ref<const std::string&>();
        } else {
            throw ValueError(
                fmt::format("'prompt' must be a text or a list of token ids, not {}", described(*prompt)));
        }
        if (request.prompt.empty() && request.prompt_ids.empty()) throw ValueError("the prompt is empty");
    }

    void read_chat(const ordered_json& body) {
        if (given(body, "prompt") != nullptr)
            throw ValueError("both 'prompt' and 'messages' are there; give one");
        const ordered_json* messages = given(body, "messages");
        if (messages == nullptr) throw ValueError("'messages' is missing");
        if (!messages->is_array())
            throw ValueError(
                fmt::format("'messages' must be a list of objects, not {}", described(*messages)));
        if (messages->empty()) throw ValueError("the prompt is empty: 'messages' has no message");
        for (size_t i = 0; i < messages->size(); ++i) {
            const std::string name = fmt::format("messages[{}]", i);
            const ordered_json& message = object_of((*messages)[i], name);
            if (!message.contains("role")) throw ValueError(fmt::format("{} has no 'role'", name));
            text_of(message["role"], name + ".role");
        }
        request.messages = *messages;
        if (const auto* flag = given(body, "add_generation_prompt"))
            request.add_generation_prompt = bool_of(*flag, "add_generation_prompt");
        request.template_context = ordered_json::object();
        if (const auto* kwargs = given(body, "chat_template_kwargs")) {
            for (const auto& [key, value] : object_of(*kwargs, "chat_template_kwargs").items()) {
                if (key == "messages" || key == "tools" || key == "add_generation_prompt")
                    throw ValueError(
                        fmt::format("'{}' stands beside 'chat_template_kwargs', not in it", key));
                request.template_context[key] = value;
            }
        }
        if (const auto* tools = given(body, "tools")) {
            if (!tools->is_array())
                throw ValueError(fmt::format("'tools' must be a list of objects, not {}", described(*tools)));
            if (!tools->empty()) request.template_context["tools"] = *tools;
        }
    }
};

Request request_at(int64_t line) {
    Request request;
    request.line = line;
    request.id = std::to_string(line);
    request.id_is_number = true;
    return request;
}

}  // namespace

int json_depth(std::string_view text) {
    int depth = 0;
    int deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            deepest = std::max(deepest, ++depth);
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return deepest;
}

std::string at_line(int64_t line, std::string_view cause) {
    return fmt::format("line {}: {}", line, cause);
}

std::optional<int64_t> line_of_error(std::string_view text) {
    constexpr std::string_view prefix = "line ";
    if (!text.starts_with(prefix)) return std::nullopt;
    int64_t line = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data() + prefix.size(), last, line);
    if (error != std::errc() || !std::string_view(end, last).starts_with(": ")) return std::nullopt;
    return line;
}

Request bad_line(int64_t line, std::string_view cause) {
    Request request = request_at(line);
    request.error = at_line(line, cause);
    return request;
}

Request parse_json_line(std::string_view text, int64_t line, const SamplingDefaults& defaults,
                        const PromptLimits& limits) {
    Request request = request_at(line);
    try {
        LineParser{request, defaults, limits}.parse(parsed(text, limits));
    } catch (const ValueError& error) {
        request.error = at_line(line, error.what());
    }
    return request;
}

Request parse_text_line(std::string_view text, int64_t line, const SamplingDefaults& defaults) {
    if (const auto bad = first_invalid_utf8(text))
        return bad_line(line, fmt::format("invalid UTF-8 at byte {} (0x{:02X})", *bad + 1,
                                          static_cast<unsigned>(static_cast<unsigned char>(text[*bad]))));
    if (text.find('\0') != std::string_view::npos)
        return bad_line(line, "a NUL byte, which text does not have");
    Request request = request_at(line);
    request.sampling = defaults.params;
    request.sampling.max_tokens = defaults.max_tokens.value_or(16);
    request.prompt = text;
    return request;
}

}  // namespace mixserve::io
