#include "engine/prompt_encoder.h"

#include "base/error.h"

namespace mixserve::engine {
namespace {

/// A special token of tokenizer_config.json: a text, or an object with "content".
std::string special_token(const json& config, const char* key) {
    const auto it = config.find(key);
    if (it == config.end()) return "";
    if (it->is_string()) return it->get<std::string>();
    if (it->is_object() && it->contains("content") && it->at("content").is_string()) return it->at("content");
    return "";
}

/// The template of tokenizer_config.json: a text, or a list of named ones of which "default" is meant.
std::optional<std::string> template_of(const json& config) {
    const auto it = config.find("chat_template");
    if (it == config.end()) return std::nullopt;
    if (it->is_string()) return it->get<std::string>();
    if (!it->is_array()) return std::nullopt;
    for (const json& entry : *it) {
        if (entry.is_object() && entry.value("name", "") == "default") return entry.value("template", "");
    }
    return std::nullopt;
}

json parse_config(const PromptTexts& texts, const std::string& where) {
    if (!texts.tokenizer_config) return json::object();
    json config = json::parse(*texts.tokenizer_config, nullptr, false);
    require_usage(config.is_object(), "{}: tokenizer_config.json is not a JSON object", where);
    return config;
}

text::Tokenizer parse_tokenizer(const PromptTexts& texts, const std::string& where) {
    require_usage(!texts.tokenizer.empty(), "{}: there is no tokenizer.json; convert the checkpoint with one",
                  where);
    try {
        return text::Tokenizer::from_json(texts.tokenizer);
    } catch (const Error& e) {
        fail_usage("{}: {}", where, e.what());
    }
}

}  // namespace

PromptEncoder::PromptEncoder(const PromptTexts& texts, const std::string& where, std::time_t now)
    : tokenizer_(parse_tokenizer(texts, where)), now_(now) {
    const json config = parse_config(texts, where);
    bos_token_ = special_token(config, "bos_token");
    eos_token_ = special_token(config, "eos_token");
    const std::optional<std::string> source = texts.chat_template ? texts.chat_template : template_of(config);
    if (!source) return;
    try {
        template_ = text::ChatTemplate::parse(*source);
    } catch (const Error& e) {
        fail_usage("{}: chat template: {}", where, e.what());
    }
}

std::string PromptEncoder::render(const io::Request& request) const {
    require(template_.has_value(), "the model has no chat template; use a prompt, or --chat-template");
    ordered_json context =
        request.template_context.is_object() ? request.template_context : ordered_json::object();
    context["messages"] = request.messages;
    context["add_generation_prompt"] = request.add_generation_prompt;
    if (!context.contains("bos_token")) context["bos_token"] = bos_token_;
    if (!context.contains("eos_token")) context["eos_token"] = eos_token_;
    try {
        return template_->render(context, now_);
    } catch (const text::TemplateError& e) {
        fail("chat template: {}", e.what());
    }
}

EncodedPrompt PromptEncoder::encode(const io::Request& request, bool add_special_tokens) const {
    if (request.prompt_is_ids) return {"", request.prompt_ids};
    EncodedPrompt encoded;
    const bool chat = io::is_chat(request.form);
    encoded.text = chat ? render(request) : request.prompt;
    encoded.token_ids = tokenizer_.encode(encoded.text, add_special_tokens && !chat);
    return encoded;
}

}  // namespace mixserve::engine
