#include <gmock/gmock.h>

#include "base/error.h"
#include "base/json.h"
#include "engine/prompt_encoder.h"

namespace mixserve::engine {
namespace {

PromptTexts texts_with(const std::string& chat_template) {
    PromptTexts texts;
    const json tokenizer = {{"model", {{"type", "BPE"}, {"vocab", {{"a", 0}}}, {"merges", json::array()}}},
                            {"added_tokens", json::array()}};
    texts.tokenizer = tokenizer.dump();
    texts.tokenizer_config = R"({"bos_token": {"content": "a"}, "eos_token": "aa"})";
    texts.chat_template = chat_template;
    return texts;
}

io::Request chat() {
    io::Request request;
    request.form = io::RequestForm::chat;
    request.messages = ordered_json::array();
    return request;
}

TEST(PromptEncoder, AllPromptsOfAJobHaveOneDate) {
    constexpr std::time_t now = 1'767'355'200;  // 2026-01-02 12:00 UTC
    const PromptTexts texts = texts_with("{{ 'a' * (strftime_now('%Y') | int - 2020) }}");
    const PromptEncoder encoder(texts, "model", now);
    EXPECT_EQ(encoder.encode(chat()).text, "aaaaaa");
    EXPECT_EQ(encoder.encode(chat()).token_ids.size(), 6U);
}

TEST(PromptEncoder, GivesTheTemplateTheSpecialTokens) {
    EXPECT_EQ(PromptEncoder(texts_with("{{ bos_token + eos_token }}"), "model").encode(chat()).text, "aaa");
}

TEST(PromptEncoder, NamesWhatCannotBeUsed) {
    const auto message = [](const PromptTexts& texts) -> std::string {
        try {
            const PromptEncoder encoder(texts, "m.h5");
        } catch (const UsageError& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_THAT(message(texts_with("{% if %}")), testing::StartsWith("m.h5: chat template: "));
    PromptTexts texts = texts_with("");
    texts.tokenizer = "";
    EXPECT_THAT(message(texts), testing::HasSubstr("there is no tokenizer.json"));
    texts.tokenizer = "{}";
    EXPECT_THAT(message(texts), testing::StartsWith("m.h5: "));
    texts = texts_with("");
    texts.tokenizer_config = "[]";
    EXPECT_THAT(message(texts), testing::HasSubstr("tokenizer_config.json"));
}

}  // namespace
}  // namespace mixserve::engine
