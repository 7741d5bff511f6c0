#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

/// The algorithms behind Python's string methods.
namespace mixserve::text::jinja {

/// str.split and str.rsplit; `most` splits, or all when negative. Without a separator: at runs of whitespace.
std::vector<std::string_view> split_left(std::string_view s, std::string_view sep, Int most);
std::vector<std::string_view> split_right(std::string_view s, std::string_view sep, Int most);
std::vector<std::string_view> split_space_left(std::string_view s, Int most);
std::vector<std::string_view> split_space_right(std::string_view s, Int most);

/// str.replace; at most `most` times, or always when negative.
std::string replace_all(Budget& budget, std::string_view s, std::string_view old, std::string_view fresh,
                        Int most);

/// To `width` code points. `align`: '<' text at the left, '>' at the right, '^' as str.center.
std::string pad(Budget& budget, std::string_view s, Int width, std::string_view fill, char align);

bool is_alnum_text(std::string_view s);
bool is_alpha_text(std::string_view s);
bool is_decimal_text(std::string_view s);
bool is_digit_text(std::string_view s);
bool is_numeric_text(std::string_view s);
bool is_printable_text(std::string_view s);
bool is_space_text(std::string_view s);
bool is_lower_text(std::string_view s);
bool is_upper_text(std::string_view s);
bool is_title_text(std::string_view s);

}  // namespace mixserve::text::jinja
