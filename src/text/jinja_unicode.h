#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Python's view of text, on UTF-8: positions count code points.
namespace mixserve::text::jinja {

bool is_ascii(std::string_view s);
bool is_valid_utf8(std::string_view s);

/// The code point at `pos` (< size) and where the next one starts. A broken byte is a code point of its own.
char32_t read_char(std::string_view s, size_t& pos);
void append_char(std::string& out, char32_t c);

size_t count_chars(std::string_view s);
/// Byte offset of code point `n`; the size when there are fewer.
size_t offset_of_char(std::string_view s, size_t n);
/// The code points, each as its bytes.
std::vector<std::string_view> split_chars(std::string_view s);

/// str.isspace and \s
bool is_space(char32_t c);
/// str.isprintable
bool is_printable(char32_t c);
/// \w
bool is_word(char32_t c);

std::string to_upper(std::string_view s);
std::string to_lower(std::string_view s);
std::string to_casefold(std::string_view s);
/// str.title
std::string to_title(std::string_view s);
/// str.capitalize
std::string to_capitalized(std::string_view s);
std::string swap_case(std::string_view s);

enum class Side { left, right, both };
/// str.strip and its kin: whitespace, or any of the characters of `chars`.
std::string_view strip(std::string_view s, Side side);
std::string_view strip(std::string_view s, std::string_view chars, Side side);

/// str.splitlines
std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends);

/// & < > " ' as markupsafe writes them.
std::string escape_html(std::string_view s);

}  // namespace mixserve::text::jinja
