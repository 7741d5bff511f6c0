#include "text/jinja_number.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

[[noreturn]] void raise_overflow() {
    raise("integer overflow: the result does not fit 128 bits");
}

int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

/// End of digits of `base` from `pos`, single underscores between them.
size_t digits_end(std::string_view s, size_t pos, int base) {
    size_t end = pos;
    while (end < s.size()) {
        if (digit_value(s[end]) < base)
            ++end;
        else if (s[end] == '_' && end > pos && end + 1 < s.size() && digit_value(s[end + 1]) < base)
            end += 2;
        else
            break;
    }
    return end;
}

std::string without_underscores(std::string_view s) {
    std::string out(s);
    std::erase(out, '_');
    return out;
}

bool accumulate(std::string_view digits, int base, Int& value) {
    value = 0;
    for (const char c : digits) {
        if (c == '_') continue;
        if (__builtin_mul_overflow(value, static_cast<Int>(base), &value)) return false;
        if (__builtin_add_overflow(value, static_cast<Int>(digit_value(c)), &value)) return false;
    }
    return true;
}

size_t float_end(std::string_view s, size_t pos) {
    size_t end = digits_end(s, pos, 10);
    bool is_float = false;
    if (end + 1 < s.size() && s[end] == '.' && digit_value(s[end + 1]) < 10) {
        end = digits_end(s, end + 1, 10);
        is_float = true;
    }
    if (end < s.size() && (s[end] == 'e' || s[end] == 'E')) {
        const size_t sign = end + 1 < s.size() && (s[end + 1] == '+' || s[end + 1] == '-') ? 1 : 0;
        const size_t exponent = digits_end(s, end + 1 + sign, 10);
        if (exponent > end + 1 + sign) return exponent;
    }
    return is_float ? end : pos;
}

}  // namespace

NumberLiteral read_number_literal(std::string_view s, size_t pos, bool allow_float) {
    if (allow_float) {
        if (const size_t end = float_end(s, pos); end > pos) {
            return {Value::number(parse_float(s.substr(pos, end - pos)).value_or(0)), end, false};
        }
    }
    int base = 10;
    size_t begin = pos;
    if (s[pos] == '0' && pos + 1 < s.size()) {
        const char mark = static_cast<char>(s[pos + 1] | 0x20);
        const int prefixed = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
        size_t first = pos + 2;
        if (first < s.size() && s[first] == '_') ++first;
        if (prefixed && first < s.size() && digit_value(s[first]) < prefixed) {
            base = prefixed;
            begin = first;
        }
    }
    // A decimal that starts with 0 is nothing but zeros.
    const size_t end = digits_end(s, begin, base == 10 && s[pos] == '0' ? 1 : base);
    NumberLiteral literal;
    Int value = 0;
    literal.overflow = !accumulate(s.substr(begin, end - begin), base, value);
    literal.value = Value::integer(value);
    literal.end = end;
    return literal;
}

std::optional<Int> parse_int(std::string_view text, int base) {
    text = strip(text, Side::both);
    const bool negative = !text.empty() && text[0] == '-';
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    if (text.size() > 2 && text[0] == '0') {
        const char mark = static_cast<char>(text[1] | 0x20);
        const int prefixed = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
        if (prefixed && (base == 0 || base == prefixed)) {
            base = prefixed;
            text.remove_prefix(text[2] == '_' ? 3 : 2);
        }
    }
    if (base == 0) {
        base = 10;
        if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos)
            return std::nullopt;
    }
    if (base < 2 || base > 36) raise("int() base must be >= 2 and <= 36, or 0");
    if (text.empty() || digits_end(text, 0, base) != text.size()) return std::nullopt;
    Int value = 0;
    if (!accumulate(text, base, value)) raise_overflow();
    return negative ? -value : value;
}

std::optional<double> parse_float(std::string_view text) {
    text = strip(text, Side::both);
    for (size_t i = 0; i < text.size(); ++i) {
        const bool between =
            i > 0 && i + 1 < text.size() && digit_value(text[i - 1]) < 10 && digit_value(text[i + 1]) < 10;
        if (text[i] == '_' && !between) return std::nullopt;
    }
    std::string plain = without_underscores(text);
    if (!plain.empty() && plain[0] == '+') plain.erase(0, 1);
    if (plain.empty() || plain[0] == '+') return std::nullopt;
    double d = 0;
    const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), d);
    if (end != plain.data() + plain.size() || plain.find('(') != std::string::npos) return std::nullopt;
    if (error == std::errc::result_out_of_range) return std::strtod(plain.c_str(), nullptr);
    if (error != std::errc()) return std::nullopt;
    return d;
}

Int int_of_float(double d) {
    if (std::isnan(d)) raise("cannot convert float NaN to integer");
    if (std::isinf(d)) raise("cannot convert float infinity to integer");
    if (std::abs(d) >= 1.7e38) raise_overflow();
    return static_cast<Int>(d);
}

Int add(Int a, Int b) {
    Int result = 0;
    if (__builtin_add_overflow(a, b, &result)) raise_overflow();
    return result;
}

Int subtract(Int a, Int b) {
    Int result = 0;
    if (__builtin_sub_overflow(a, b, &result)) raise_overflow();
    return result;
}

Int multiply(Int a, Int b) {
    Int result = 0;
    if (__builtin_mul_overflow(a, b, &result)) raise_overflow();
    return result;
}

Int floor_divide(Int a, Int b) {
    if (b == 0) raise("integer division or modulo by zero");
    if (b == -1) return subtract(0, a);
    const Int quotient = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Int modulo(Int a, Int b) {
    if (b == 0) raise("integer modulo by zero");
    if (b == -1) return 0;
    const Int remainder = a % b;
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double modulo(double a, double b) {
    if (b == 0) raise("float modulo by zero");
    double remainder = std::fmod(a, b);
    if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
    return remainder == 0 ? std::copysign(0.0, b) : remainder;
}

double floor_divide(double a, double b) {
    if (b == 0) raise("float floor division by zero");
    const double quotient = (a - modulo(a, b)) / b;
    if (quotient == 0) return std::copysign(0.0, a / b);
    const double floored = std::floor(quotient);
    return quotient - floored > 0.5 ? floored + 1 : floored;
}

Int power(Int a, Int b) {
    Int result = 1;
    if (a == 0 || a == 1) return b == 0 ? 1 : a;
    if (a == -1) return b % 2 == 0 ? 1 : -1;
    if (b > 128) raise_overflow();
    for (Int i = 0; i < b; ++i)
        result = multiply(result, a);
    return result;
}

double round_float(double d, Int digits) {
    if (!std::isfinite(d) || digits > 323) return d;
    if (digits < -308) return std::copysign(0.0, d);
    const int n = static_cast<int>(digits);
    if (n >= 0) return std::strtod(print_float(d, 'f', n, false).c_str(), nullptr);
    const double scale = std::pow(10.0, -n);
    const double scaled = d / scale;
    double rounded = std::round(scaled);
    if (std::abs(scaled - rounded) == 0.5) rounded = 2.0 * std::round(scaled / 2.0);
    return rounded * scale;
}

Int round_int(Int i, Int digits) {
    if (digits >= 0) return i;
    if (digits < -38) return 0;
    const Int scale = power(10, -digits);
    const Int low = multiply(floor_divide(i, scale), scale);
    const Int below = i - low, above = scale - below;
    const bool up = below > above || (below == above && floor_divide(i, scale) % 2 != 0);
    return up ? add(low, scale) : low;
}

std::string print_float(double d, char conversion, int precision, bool alternate) {
    if (precision > 1000) raise("a precision of more than 1000 digits");
    const bool upper = conversion >= 'A' && conversion <= 'Z';
    if (!std::isfinite(d)) {
        const std::string text = std::isnan(d) ? "nan" : d < 0 ? "-inf" : "inf";
        return upper ? to_upper(text) : text;
    }
    const char format[] = {'%',
                           alternate ? '#' : '.',
                           alternate ? '.' : '*',
                           alternate ? '*' : conversion,
                           alternate ? conversion : '\0',
                           '\0'};
    std::string out(static_cast<size_t>(precision) + 330, '\0');
    const int n = std::snprintf(out.data(), out.size(), format, precision, d);
    out.resize(static_cast<size_t>(std::max(n, 0)));
    return out;
}

}  // namespace mixserve::text::jinja
