#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace mixserve::text {

/// A template cannot be parsed or rendered; the text names line, column and cause.
class TemplateError : public Error {
  public:
    using Error::Error;
};

/// A Jinja chat template as published checkpoints have them, with what transformers adds (raise_exception,
/// strftime_now, tojson without HTML escapes, trim_blocks and lstrip_blocks, loop controls, generation
/// blocks). Const and safe to share between threads.
class ChatTemplate {
  public:
    static ChatTemplate parse(std::string_view source);
    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;
    ChatTemplate& operator=(ChatTemplate&&) noexcept;
    /// `context`: messages, tools, add_generation_prompt, bos_token, eos_token, and whatever the request
    /// adds.
    std::string render(const ordered_json& context) const;
    /// The same with `now` for strftime_now, so that all prompts of a job carry one date.
    std::string render(const ordered_json& context, std::time_t now) const;

  private:
    struct Impl;
    explicit ChatTemplate(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace mixserve::text
