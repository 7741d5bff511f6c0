#include "text/chat_template.h"

#include <algorithm>

#include "text/jinja_interpreter.h"
#include "text/jinja_lexer.h"
#include "text/jinja_parser.h"
#include "text/jinja_unicode.h"

namespace mixserve::text {
namespace {

constexpr size_t max_source_bytes = size_t{4} << 20;

/// "chat template, line 3, column 7: cause"
TemplateError error_at(std::string_view source, uint32_t offset, std::string_view cause) {
    const std::string_view before = source.substr(0, offset);
    const size_t newline = before.rfind('\n');
    const std::string_view line = newline == std::string_view::npos ? before : before.substr(newline + 1);
    return TemplateError(fmt::format("chat template, line {}, column {}: {}",
                                     std::count(before.begin(), before.end(), '\n') + 1,
                                     jinja::count_chars(line) + 1, cause));
}

}  // namespace

struct ChatTemplate::Impl {
    jinja::Template tree;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::parse(std::string_view source) {
    if (source.size() > max_source_bytes)
        throw TemplateError(fmt::format("the chat template is larger than {} MiB", max_source_bytes >> 20));
    if (!jinja::is_valid_utf8(source)) throw TemplateError("the chat template is not valid UTF-8");
    const std::string normalized = jinja::normalize_source(source);
    try {
        return ChatTemplate(std::make_unique<Impl>(Impl{jinja::parse_template(normalized)}));
    } catch (const jinja::SyntaxError& error) {
        throw error_at(normalized, error.offset, error.what());
    }
}

std::string ChatTemplate::render(const ordered_json& context) const {
    return render(context, std::time(nullptr));
}

std::string ChatTemplate::render(const ordered_json& context, std::time_t now) const {
    std::unique_ptr<jinja::Interpreter> interpreter;
    try {
        interpreter = std::make_unique<jinja::Interpreter>(impl_->tree, context, now);
        return interpreter->render();
    } catch (const jinja::EvalError& error) {
        if (!interpreter) throw TemplateError(fmt::format("chat template: {}", error.what()));
        throw error_at(impl_->tree.source, interpreter->position(), error.what());
    }
}

}  // namespace mixserve::text
