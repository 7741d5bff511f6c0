#include "text/jinja_print.h"

#include <array>
#include <charconv>
#include <cmath>

#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {

std::string int_text(Int i) {
    return fmt::format("{}", i);
}

/// The shortest digits that give the same double back, laid out as Python does.
std::string repr_float(double d) {
    if (std::isnan(d)) return "nan";
    if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
    std::array<char, 64> buffer{};
    const auto end =
        std::to_chars(buffer.data(), buffer.data() + buffer.size(), d, std::chars_format::scientific).ptr;
    std::string_view text(buffer.data(), static_cast<size_t>(end - buffer.data()));
    const size_t e = text.find('e');
    int exponent = 0;
    std::string_view exponent_text = text.substr(e + 1);
    if (exponent_text.front() == '+') exponent_text.remove_prefix(1);
    std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
    std::string out;
    std::string digits;
    for (const char c : text.substr(0, e)) {
        if (c == '-')
            out.push_back('-');
        else if (c != '.')
            digits.push_back(c);
    }
    const int n = static_cast<int>(digits.size());
    if (exponent < -4 || exponent >= 16) {
        out += digits.substr(0, 1);
        if (n > 1) out += fmt::format(".{}", digits.substr(1));
        return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
    }
    if (exponent < 0) return fmt::format("{}0.{:0>{}}", out, digits, n - exponent - 1);
    if (n <= exponent + 1)
        return out + digits + std::string(static_cast<size_t>(exponent) + 1 - static_cast<size_t>(n), '0') +
               ".0";
    const auto whole = static_cast<size_t>(exponent + 1);
    return fmt::format("{}{}.{}", out, digits.substr(0, whole), digits.substr(whole));
}

std::string repr_string(std::string_view s) {
    const char quote =
        s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos ? '"' : '\'';
    std::string out(1, quote);
    for (size_t pos = 0; pos < s.size();) {
        const size_t start = pos;
        const char32_t c = read_char(s, pos);
        if (c == static_cast<char32_t>(quote) || c == '\\') {
            out.push_back('\\');
            out.push_back(static_cast<char>(c));
        } else if (c == '\n') {
            out += "\\n";
        } else if (c == '\r') {
            out += "\\r";
        } else if (c == '\t') {
            out += "\\t";
        } else if (is_printable(c)) {
            out += s.substr(start, pos - start);
        } else if (c < 0x100) {
            out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
        } else if (c < 0x10000) {
            out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
        } else {
            out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
        }
    }
    out.push_back(quote);
    return out;
}

void append_repr(Budget& budget, const Value& value, std::string& out, int level) {
    if (level > max_value_depth) raise("values nest deeper than {}", max_value_depth);
    const size_t before = out.size();
    if (value.is_none()) {
        out += "None";
    } else if (value.is_undefined()) {
        out += "Undefined";
    } else if (value.is_bool()) {
        out += truthy(value) ? "True" : "False";
    } else if (value.is_float()) {
        out += repr_float(*value.if_number());
    } else if (const auto i = value.if_int()) {
        out += int_text(*i);
    } else if (const Str* s = value.if_str()) {
        out += s->markup ? fmt::format("Markup({})", repr_string(s->bytes)) : repr_string(s->bytes);
    } else if (const Seq* seq = value.if_seq()) {
        out += seq->tuple ? "(" : "[";
        bool first = true;
        for (const Value& item : seq->items) {
            if (!std::exchange(first, false)) out += ", ";
            append_repr(budget, item, out, level + 1);
        }
        if (seq->tuple && seq->items.size() == 1) out += ",";
        out += seq->tuple ? ")" : "]";
    } else if (const Dict* dict = value.if_dict()) {
        out += "{";
        bool first = true;
        for (const auto& [key, item] : dict->items) {
            if (!std::exchange(first, false)) out += ", ";
            append_repr(budget, key, out, level + 1);
            out += ": ";
            append_repr(budget, item, out, level + 1);
        }
        out += "}";
    } else {
        out += value.if_object()->repr(budget, level);
    }
    budget.scan(out.size() - before);
    budget.string(static_cast<Int>(out.size() - before));
}

std::string repr(Budget& budget, const Value& value) {
    std::string out;
    append_repr(budget, value, out, 0);
    return out;
}

std::string to_text(Budget& budget, const Value& value) {
    if (const Str* s = value.if_str()) {
        budget.string(static_cast<Int>(s->bytes.size()));
        return s->bytes;
    }
    if (value.is_undefined()) return {};
    return repr(budget, value);
}

Value to_str(Budget& budget, const Value& value) {
    return value.is_str() ? value : Value::string(to_text(budget, value));
}

}  // namespace mixserve::text::jinja
