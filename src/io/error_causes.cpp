#include "io/error_causes.h"

#include <algorithm>
#include <cctype>

namespace mixserve::io {
namespace {

constexpr size_t max_causes = 200;
constexpr size_t max_text = 300;  // bytes of a cause; a text may quote a whole line

bool is_digit(char c) {
    return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

/// "line 7: " in front tells where, not why.
size_t end_of_line_number(const std::string& text) {
    if (!text.starts_with("line ")) return 0;
    size_t at = 5;
    while (at < text.size() && is_digit(text[at]))
        ++at;
    return at > 5 && text.compare(at, 2, ": ") == 0 ? at + 2 : 0;
}

std::string cause_of(const std::string& text) {
    std::string cause;
    for (size_t i = end_of_line_number(text); i < text.size() && cause.size() < max_text;) {
        const bool opens_quote =
            (text[i] == '\'' || text[i] == '"') &&
            (cause.empty() || std::isalnum(static_cast<unsigned char>(cause.back())) == 0);
        const size_t closing = opens_quote ? text.find(text[i], i + 1) : std::string::npos;
        if (closing != std::string::npos) {
            cause += "'...'";
            i = closing + 1;
        } else if (is_digit(text[i])) {
            cause += 'N';
            while (i < text.size() &&
                   (is_digit(text[i]) || (text[i] == '.' && i + 1 < text.size() && is_digit(text[i + 1]))))
                ++i;
        } else {
            cause += text[i++];
        }
    }
    return cause;
}

}  // namespace

void ErrorCauses::add(const std::string& text, const std::string& id) {
    std::string cause = cause_of(text);
    if (causes_.size() >= max_causes && !causes_.contains(cause)) cause = "other causes";
    Cause& entry = causes_[cause];
    if (entry.count++ > 0) return;
    entry.text = cause;
    entry.example = text.substr(0, max_text);
    entry.example_id = id;
}

std::vector<ErrorCauses::Cause> ErrorCauses::sorted() const {
    std::vector<Cause> all;
    for (const auto& [text, cause] : causes_)
        all.push_back(cause);
    std::sort(all.begin(), all.end(), [](const Cause& a, const Cause& b) {
        return a.count != b.count ? a.count > b.count : a.text < b.text;
    });
    return all;
}

}  // namespace mixserve::io
