#pragma once

#include <string>
#include <string_view>

#include "text/jinja_value.h"

/// How Python writes values down.
namespace mixserve::text::jinja {

/// str(value). The text of a string as it is.
std::string to_text(Budget& budget, const Value& value);
/// The same as a value; a string (and Markup) stays the one it is.
Value to_str(Budget& budget, const Value& value);
/// repr(value)
std::string repr(Budget& budget, const Value& value);
/// Appends repr(value); `level` counts how deep the printing is.
void append_repr(Budget& budget, const Value& value, std::string& out, int level);
std::string repr_string(std::string_view s);
std::string repr_float(double d);
std::string int_text(Int i);

struct JsonStyle {
    bool ensure_ascii = false;
    bool sort_keys = false;
    bool indented = false;
    std::string indent;  // of one level
    std::string item_separator = ", ";
    std::string key_separator = ": ";
};
/// json.dumps of Python
std::string dump_json(Budget& budget, const Value& value, const JsonStyle& style);

}  // namespace mixserve::text::jinja
