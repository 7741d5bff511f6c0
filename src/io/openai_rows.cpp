#include "io/openai_rows.h"

#include <fmt/format.h>

#include "io/row_parts.h"

namespace mixserve::io {
namespace {

// {"tokens","token_logprobs","top_logprobs","text_offset"}, of /v1/completions. Tokens of one text share a
// key of top_logprobs, where the most likely stays.
ordered_json completion_logprobs(const std::vector<PositionLogprobs>& positions) {
    ordered_json tokens = ordered_json::array();
    ordered_json token_logprobs = ordered_json::array();
    ordered_json top_logprobs = ordered_json::array();
    ordered_json text_offset = ordered_json::array();
    for (const PositionLogprobs& position : positions) {
        tokens.push_back(position.chosen.text);
        token_logprobs.push_back(shortest(position.chosen.logprob));
        ordered_json top = ordered_json::object();
        for (const TokenLogprob& token : position.top)
            top.emplace(token.text, shortest(token.logprob));
        top.emplace(position.chosen.text, shortest(position.chosen.logprob));
        top_logprobs.push_back(std::move(top));
        text_offset.push_back(position.text_offset);
    }
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(token_logprobs)},
            {"top_logprobs", std::move(top_logprobs)},
            {"text_offset", std::move(text_offset)}};
}

ordered_json chat_token(const TokenLogprob& token) {
    ordered_json bytes = ordered_json::array();
    for (const char c : token.text)
        bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", token.text}, {"logprob", shortest(token.logprob)}, {"bytes", std::move(bytes)}};
}

// {"content":[{"token","logprob","bytes","top_logprobs":[...]}]}, of /v1/chat/completions.
ordered_json chat_logprobs(const std::vector<PositionLogprobs>& positions) {
    ordered_json content = ordered_json::array();
    for (const PositionLogprobs& position : positions) {
        ordered_json entry = chat_token(position.chosen);
        ordered_json& top = entry["top_logprobs"] = ordered_json::array();
        for (const TokenLogprob& token : position.top)
            top.push_back(chat_token(token));
        content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}};
}

// As vLLM adds them: of each prompt token, the tokens listed there by id.
ordered_json prompt_logprobs(const std::vector<PositionLogprobs>& positions) {
    ordered_json entries = ordered_json::array({nullptr});
    for (const PositionLogprobs& position : positions) {
        ordered_json entry = ordered_json::object();
        const auto put = [&](const TokenLogprob& token, int64_t rank) {
            entry.emplace(std::to_string(token.token), ordered_json{{"logprob", shortest(token.logprob)},
                                                                    {"rank", rank},
                                                                    {"decoded_token", token.text}});
        };
        put(position.chosen, position.rank);
        for (size_t i = 0; i < position.top.size(); ++i)
            put(position.top[i], static_cast<int64_t>(i) + 1);
        entries.push_back(std::move(entry));
    }
    return entries;
}

ordered_json choice_entry(const Result& result, const Choice& choice, size_t index) {
    ordered_json entry{{"index", index}};
    const bool chat = is_chat(result.form);
    if (chat) {
        entry["message"] = {{"role", "assistant"}, {"content", choice.text}};
    } else {
        entry["text"] = choice.text;
    }
    if (result.wants_logprobs) {
        entry["logprobs"] = chat ? chat_logprobs(choice.logprobs) : completion_logprobs(choice.logprobs);
    } else {
        entry["logprobs"] = nullptr;
    }
    entry["finish_reason"] = text_of(choice.finish_reason);
    if (result.wants_prompt_logprobs && !chat)
        entry["prompt_logprobs"] = prompt_logprobs(result.prompt_logprobs);
    return entry;
}

ordered_json body_of(const Result& result, const RowContext& context, const std::string& name) {
    const bool chat = is_chat(result.form);
    ordered_json choices = ordered_json::array();
    for (size_t i = 0; i < result.choices.size(); ++i)
        choices.push_back(choice_entry(result, result.choices[i], i));
    ordered_json body{{"id", fmt::format("{}-{}", chat ? "chatcmpl" : "cmpl", name)},
                      {"object", chat ? "chat.completion" : "text_completion"},
                      {"created", context.created_unix_s},
                      {"model", context.model},
                      {"choices", std::move(choices)},
                      {"usage", usage_entry(result)}};
    if (result.wants_prompt_logprobs && chat)
        body["prompt_logprobs"] = prompt_logprobs(result.prompt_logprobs);
    return body;
}

ordered_json error_body(const std::string& error) {
    return {{"error",
             {{"message", error},
              {"type", "invalid_request_error"},
              {"param", nullptr},
              {"code", "invalid_request"}}}};
}

}  // namespace

ordered_json openai_row(const Result& result, const RowContext& context) {
    const std::string name = fmt::format("{:016x}{:08x}", request_hash(result.id), result.line);
    ordered_json row{{"id", "batch_req_" + name}, {"custom_id", id_entry(result.id, result.id_is_number)}};
    row["response"] = {{"status_code", result.error ? 400 : 200},
                       {"request_id", "req_" + name},
                       {"body", result.error ? error_body(*result.error) : body_of(result, context, name)}};
    row["error"] = nullptr;
    if (result.error) row["error"] = {{"code", "invalid_request"}, {"message", *result.error}};
    return row;
}

}  // namespace mixserve::io
