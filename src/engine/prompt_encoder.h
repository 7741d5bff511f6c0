#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "io/request.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace mixserve::engine {

/// The texts of a model or a checkpoint folder that say how prompts become tokens.
struct PromptTexts {
    std::string tokenizer;  // tokenizer.json
    std::optional<std::string>
        tokenizer_config;  // its bos_token, eos_token, and the template where there is no other
    std::optional<std::string> chat_template;
};

/// A line's prompt as text and as tokens.
struct EncodedPrompt {
    std::string text;  // what the chat template made of the messages; empty where token ids were given
    std::vector<int32_t> token_ids;
};

/// Turns parsed lines into prompts. Const and safe to share between threads.
class PromptEncoder {
  public:
    /// UsageError naming `where` and the file for texts that cannot be used. A model without a chat template
    /// serves completions only. `now` is the date that templates write: one for all prompts of a job.
    PromptEncoder(const PromptTexts& texts, const std::string& where, std::time_t now = std::time(nullptr));

    void set_now(std::time_t now) { now_ = now; }

    const text::Tokenizer& tokenizer() const { return tokenizer_; }
    /// A completion gets the tokenizer's special tokens unless `add_special_tokens` is off; a rendered chat
    /// has its own. Error when the template fails or there is none.
    EncodedPrompt encode(const io::Request& request, bool add_special_tokens = true) const;

  private:
    std::string render(const io::Request& request) const;

    text::Tokenizer tokenizer_;
    std::optional<text::ChatTemplate> template_;
    std::string bos_token_;
    std::string eos_token_;
    std::time_t now_;
};

}  // namespace mixserve::engine
