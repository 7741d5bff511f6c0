#include <algorithm>
#include <cmath>

#include "text/jinja_format.h"
#include "text/jinja_number.h"
#include "text/jinja_print.h"
#include "text/jinja_string_ops.h"
#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {
namespace {

/// [[fill]align][sign][#][0][width][grouping][.precision][type]
struct Spec {
    std::string fill = " ";
    char align = 0;
    char sign = '-';
    bool alternate = false;
    Int width = 0;
    char grouping = 0;
    Int precision = -1;
    char type = 0;
};

Int read_number(std::string_view s, size_t& pos) {
    Int n = 0;
    for (; pos < s.size() && s[pos] >= '0' && s[pos] <= '9'; ++pos)
        n = std::min<Int>(n * 10 + (s[pos] - '0'), Budget::max_string_bytes + Int{1});
    return n;
}

Spec read_spec(std::string_view s) {
    const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
    Spec spec;
    size_t pos = 0;
    if (!s.empty()) {
        size_t after_fill = 0;
        read_char(s, after_fill);
        if (after_fill < s.size() && is_align(s[after_fill])) {
            spec.fill = std::string(s.substr(0, after_fill));
            spec.align = s[after_fill];
            pos = after_fill + 1;
        } else if (is_align(s[0])) {
            spec.align = s[0];
            pos = 1;
        }
    }
    const auto at = [&](std::string_view any) {
        return pos < s.size() && any.find(s[pos]) != std::string_view::npos;
    };
    if (at("+- ")) spec.sign = s[pos++];
    if (at("#")) {
        spec.alternate = true;
        ++pos;
    }
    if (at("0")) {
        if (!spec.align) {
            spec.fill.assign(1, '0');
            spec.align = '=';
        }
        ++pos;
    }
    spec.width = read_number(s, pos);
    if (at(",_")) spec.grouping = s[pos++];
    if (at(".")) {
        const size_t digits = ++pos;
        spec.precision = read_number(s, pos);
        if (pos == digits) raise("Format specifier missing precision");
    }
    if (pos < s.size()) spec.type = s[pos++];
    if (pos != s.size()) raise("Invalid format specifier '{}'", s);
    return spec;
}

/// Separators between each `group` digits of the whole part that `text` starts with.
std::string grouped(const std::string& text, char separator, size_t group) {
    const size_t whole = std::min(text.find_first_not_of("0123456789abcdefABCDEF"), text.size());
    std::string out;
    for (size_t i = 0; i < whole; ++i) {
        if (i > 0 && (whole - i) % group == 0) out.push_back(separator);
        out.push_back(text[i]);
    }
    return out + text.substr(whole);
}

std::string lay_out(Budget& budget, const Spec& spec, const std::string& sign, std::string body) {
    if (spec.grouping) {
        body = grouped(body, spec.grouping,
                       spec.type == 'x' || spec.type == 'X' || spec.type == 'b' || spec.type == 'o' ? 4 : 3);
    }
    if (spec.align == '=') {
        return sign + pad(budget, body, spec.width - static_cast<Int>(count_chars(sign)), spec.fill, '>');
    }
    const Int missing = spec.width - static_cast<Int>(count_chars(sign) + count_chars(body));
    if (spec.align == '^' && missing > 0) {
        const std::string left = pad(budget, "", missing / 2, spec.fill, '>');
        return left + sign + body + pad(budget, "", missing - missing / 2, spec.fill, '>');
    }
    return pad(budget, sign + body, spec.width, spec.fill, spec.align ? spec.align : '>');
}

std::string sign_of(const Spec& spec, bool negative) {
    return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string binary_digits(Int i) {
    std::string out;
    for (; i > 0; i /= 2)
        out.insert(out.begin(), static_cast<char>('0' + static_cast<int>(i % 2)));
    return out.empty() ? "0" : out;
}

std::string format_int(Budget& budget, const Spec& spec, Int i) {
    if (spec.precision >= 0) raise("Precision not allowed in integer format specifier");
    const bool negative = i < 0;
    const Int size = negative ? subtract(0, i) : i;
    std::string body, prefix;
    switch (spec.type) {
        case 0:
        case 'd':
        case 'n':
            body = int_text(size);
            break;
        case 'x':
            body = fmt::format("{:x}", size);
            prefix = "0x";
            break;
        case 'X':
            body = fmt::format("{:X}", size);
            prefix = "0X";
            break;
        case 'o':
            body = fmt::format("{:o}", size);
            prefix = "0o";
            break;
        case 'b':
            body = binary_digits(size);
            prefix = "0b";
            break;
        case 'c':
            if (i < 0 || i > 0x10FFFF) raise("%c arg not in range(0x110000)");
            append_char(body, static_cast<char32_t>(i));
            break;
        default:
            raise("Unknown format code '{}' for object of type 'int'", spec.type);
    }
    return lay_out(budget, spec, sign_of(spec, negative) + (spec.alternate ? prefix : ""), std::move(body));
}

std::string format_float(Budget& budget, const Spec& spec, double d) {
    const bool negative = std::signbit(d) && !std::isnan(d);
    const double size = std::abs(d);
    const int precision = static_cast<int>(std::min<Int>(spec.precision < 0 ? 6 : spec.precision, 2000));
    std::string body;
    if (spec.type == 0 && spec.precision < 0) {
        body = repr_float(size);
    } else if (spec.type == 0) {
        body = print_float(size, 'g', precision, spec.alternate);
        if (body.find_first_of(".enia") == std::string::npos) body += ".0";
    } else if (spec.type == '%') {
        body = print_float(size * 100, 'f', precision, spec.alternate) + "%";
    } else if (spec.type == 'n') {
        body = print_float(size, 'g', precision, spec.alternate);
    } else if (std::string_view("eEfFgG").find(spec.type) != std::string_view::npos) {
        body = print_float(size, spec.type, precision, spec.alternate);
    } else {
        raise("Unknown format code '{}' for object of type 'float'", spec.type);
    }
    return lay_out(budget, spec, sign_of(spec, negative), std::move(body));
}

}  // namespace

std::string format_spec(Budget& budget, const Value& value, std::string_view text) {
    if (text.empty()) return to_text(budget, value);
    const Spec spec = read_spec(text);
    if (const Str* s = value.if_str()) {
        if (spec.type && spec.type != 's')
            raise("Unknown format code '{}' for object of type 'str'", spec.type);
        if (spec.sign != '-') raise("Sign not allowed in string format specifier");
        if (spec.align == '=' && spec.fill != "0")
            raise("'=' alignment not allowed in string format specifier");
        std::string body = s->bytes;
        if (spec.precision >= 0) body.resize(offset_of_char(body, static_cast<size_t>(spec.precision)));
        Spec layout = spec;
        layout.grouping = 0;
        if (!layout.align || layout.align == '=') layout.align = '<';
        return lay_out(budget, layout, "", std::move(body));
    }
    if (const auto i = value.if_int()) {
        if (std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type) {
            return format_float(budget, spec, static_cast<double>(*i));
        }
        return format_int(budget, spec, *i);
    }
    if (const auto d = value.if_number()) return format_float(budget, spec, *d);
    raise("unsupported format string passed to {}.__format__", type_name(value));
}

namespace {

class BraceFormatter {
  public:
    BraceFormatter(Interpreter& in, const Args& args, const Dict* names, bool markup)
        : in_(in), args_(args), names_(names), markup_(markup) {}

    std::string run(std::string_view s, int level) {
        if (level > 2) raise("Max string recursion exceeded");
        std::string out;
        for (size_t pos = 0; pos < s.size();) {
            const char c = s[pos];
            if (c != '{' && c != '}') {
                const size_t end = std::min(s.find_first_of("{}", pos), s.size());
                out += s.substr(pos, end - pos);
                pos = end;
            } else if (pos + 1 < s.size() && s[pos + 1] == c) {
                out.push_back(c);
                pos += 2;
            } else if (c == '}') {
                raise("Single '}}' encountered in format string");
            } else {
                out += field(s, ++pos, level);
            }
            in_.budget().string(static_cast<Int>(out.size()));
        }
        return out;
    }

  private:
    /// A replacement field, behind its `{`.
    std::string field(std::string_view s, size_t& pos, int level) {
        size_t end = pos;
        for (int open = 1; end < s.size(); ++end) {
            open += s[end] == '{' ? 1 : s[end] == '}' ? -1 : 0;
            if (open == 0) break;
        }
        if (end >= s.size()) raise("expected '}}' before end of string");
        const std::string_view text = s.substr(pos, end - pos);
        pos = end + 1;
        size_t name_end = 0;
        for (bool bracket = false; name_end < text.size(); ++name_end) {
            if (text[name_end] == '[')
                bracket = true;
            else if (text[name_end] == ']')
                bracket = false;
            else if (!bracket && (text[name_end] == ':' || text[name_end] == '!'))
                break;
        }
        Value value = lookup(text.substr(0, name_end));
        std::string_view rest = text.substr(name_end);
        if (!rest.empty() && rest[0] == '!') {
            if (rest.size() < 2) raise("end of string while looking for conversion specifier");
            if (rest[1] == 'r' || rest[1] == 'a')
                value = in_.make_string(repr(in_.budget(), value));
            else if (rest[1] == 's')
                value = to_str(in_.budget(), value);
            else
                raise("Unknown conversion specifier {}", rest[1]);
            rest.remove_prefix(2);
            if (!rest.empty() && rest[0] != ':') raise("expected ':' after conversion specifier");
        }
        const std::string spec = rest.empty() ? std::string() : run(rest.substr(1), level + 1);
        std::string out =
            value.is_undefined() && spec.empty() ? std::string() : format_spec(in_.budget(), value, spec);
        const Str* s_value = value.if_str();
        return markup_ && !(s_value && s_value->markup) ? escape_html(out) : out;
    }

    Value lookup(std::string_view path) {
        const size_t first_end = std::min(path.find_first_of(".["), path.size());
        Value value = argument(path.substr(0, first_end));
        for (size_t pos = first_end; pos < path.size();) {
            const bool is_item = path[pos] == '[';
            const size_t end =
                is_item ? path.find(']', pos) : std::min(path.find_first_of(".[", pos + 1), path.size());
            if (end == std::string_view::npos) raise("Missing ']' in format string");
            const std::string_view key = path.substr(pos + 1, end - pos - 1);
            if (key.empty()) raise("Empty attribute in format string");
            const auto i = is_item && key.find_first_not_of("0123456789") == std::string_view::npos
                               ? parse_int(key, 10)
                               : std::nullopt;
            value = !is_item ? in_.get_attribute(value, key)
                             : in_.get_item(value, i ? Value::integer(*i) : Value::string(std::string(key)));
            pos = is_item ? end + 1 : end;
        }
        return value;
    }

    Value argument(std::string_view name) {
        const bool numbered = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
        if (name.empty() || numbered) {
            if (name.empty() == numbered_ && (numbered_ || automatic_ > 0))
                raise("cannot switch between automatic field numbering and manual field specification");
            numbered_ = numbered;
            const Int i = numbered ? parse_int(name, 10).value_or(0) : automatic_++;
            if (numbered && automatic_ > 0)
                raise("cannot switch from automatic field numbering to manual field specification");
            if (i >= static_cast<Int>(args_.positional.size()))
                raise("Replacement index {} out of range for positional args tuple", i);
            return args_.positional[static_cast<size_t>(i)];
        }
        if (names_) {
            if (const Value* value = names_->find(name)) return *value;
        }
        for (const auto& [key, value] : args_.named) {
            if (key == name) return value;
        }
        raise("{}", repr_string(name));
    }

    Interpreter& in_;
    const Args& args_;
    const Dict* names_;
    bool markup_;
    Int automatic_ = 0;
    bool numbered_ = false;
};

}  // namespace

Value format_braces(Interpreter& in, const Str& pattern, const Args& args, const Dict* names) {
    return in.make_string(BraceFormatter(in, args, names, pattern.markup).run(pattern.bytes, 0),
                          pattern.markup);
}

}  // namespace mixserve::text::jinja
