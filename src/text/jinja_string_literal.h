#pragma once

#include <string>
#include <string_view>

namespace mixserve::text::jinja {

/// The text between the quotes of a string literal, its escapes replaced as Python's unicode-escape does.
/// Raises EvalError.
std::string unescape_string(std::string_view literal);

}  // namespace mixserve::text::jinja
