#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja_value.h"

/// Arithmetic of Python's numbers, and reading them.
namespace mixserve::text::jinja {

struct NumberLiteral {
    Value value;
    size_t end = 0;
    bool overflow = false;
};
/// The number that starts at `pos` (a digit): 0b, 0o, 0x, decimal with underscores, or a float where that is
/// allowed.
NumberLiteral read_number_literal(std::string_view s, size_t pos, bool allow_float);

/// int(text, base) and float(text); nullopt where Python raises ValueError. A value past 128 bits raises.
std::optional<Int> parse_int(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

/// int(d); raises for infinity and NaN and what does not fit.
Int int_of_float(double d);

Int add(Int a, Int b);
Int subtract(Int a, Int b);
Int multiply(Int a, Int b);
Int floor_divide(Int a, Int b);
Int modulo(Int a, Int b);
double floor_divide(double a, double b);
double modulo(double a, double b);
/// a ** b for b >= 0
Int power(Int a, Int b);

/// round(d, digits), half to even on the exact decimal value.
double round_float(double d, Int digits);
Int round_int(Int i, Int digits);

/// printf of one double; `conversion` is one of e E f F g G.
std::string print_float(double d, char conversion, int precision, bool alternate);

}  // namespace mixserve::text::jinja
