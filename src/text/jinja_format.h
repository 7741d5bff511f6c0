#pragma once

#include <string_view>

#include "text/jinja_interpreter.h"
#include "text/jinja_value.h"

namespace mixserve::text::jinja {

/// `pattern % argument`: printf-style formatting of Python. A tuple holds several arguments, a dict named
/// ones.
Value format_percent(Budget& budget, const Str& pattern, const Value& argument);

/// format(value, spec): fill, alignment, sign, #, 0, width, grouping, precision, type.
std::string format_spec(Budget& budget, const Value& value, std::string_view spec);

/// str.format and (with `names` a dict) str.format_map.
Value format_braces(Interpreter& in, const Str& pattern, const Args& args, const Dict* names);

}  // namespace mixserve::text::jinja
