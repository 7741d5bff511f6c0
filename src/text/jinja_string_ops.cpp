#include "text/jinja_string_ops.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "text/jinja_unicode.h"

namespace mixserve::text::jinja {

std::vector<std::string_view> split_left(std::string_view s, std::string_view sep, Int most) {
    std::vector<std::string_view> parts;
    size_t begin = 0;
    while (most < 0 || static_cast<Int>(parts.size()) < most) {
        const size_t at = s.find(sep, begin);
        if (at == std::string_view::npos) break;
        parts.push_back(s.substr(begin, at - begin));
        begin = at + sep.size();
    }
    parts.push_back(s.substr(begin));
    return parts;
}

std::vector<std::string_view> split_right(std::string_view s, std::string_view sep, Int most) {
    std::vector<std::string_view> parts;
    while (most < 0 || static_cast<Int>(parts.size()) < most) {
        const size_t at = s.rfind(sep);
        if (at == std::string_view::npos) break;
        parts.push_back(s.substr(at + sep.size()));
        s = s.substr(0, at);
    }
    parts.push_back(s);
    std::reverse(parts.begin(), parts.end());
    return parts;
}

namespace {

size_t word_end(std::string_view s) {
    size_t pos = 0;
    while (pos < s.size()) {
        size_t next = pos;
        if (is_space(read_char(s, next))) break;
        pos = next;
    }
    return pos;
}

}  // namespace

std::vector<std::string_view> split_space_left(std::string_view s, Int most) {
    std::vector<std::string_view> parts;
    for (s = strip(s, Side::left); !s.empty(); s = strip(s, Side::left)) {
        if (most >= 0 && static_cast<Int>(parts.size()) >= most) {
            parts.push_back(s);
            break;
        }
        const size_t end = word_end(s);
        parts.push_back(s.substr(0, end));
        s.remove_prefix(end);
    }
    return parts;
}

std::vector<std::string_view> split_space_right(std::string_view s, Int most) {
    if (most < 0) return split_space_left(s, most);
    std::vector<std::string_view> words = split_space_left(s, -1);
    const auto n = static_cast<Int>(words.size());
    if (n <= most) return words;
    // What is left of the last `most` words stays in one piece.
    const auto kept = static_cast<size_t>(n - most);
    const char* end = words[kept - 1].data() + words[kept - 1].size();
    std::vector<std::string_view> parts;
    parts.emplace_back(s.data(), static_cast<size_t>(end - s.data()));
    parts.insert(parts.end(), words.begin() + static_cast<std::ptrdiff_t>(kept), words.end());
    return parts;
}

std::string replace_all(Budget& budget, std::string_view s, std::string_view old, std::string_view fresh,
                        Int most) {
    budget.scan(s.size());
    std::string out;
    Int n = 0;
    const auto put = [&](std::string_view part) {
        out += part;
        if (out.size() > static_cast<size_t>(Budget::max_string_bytes))
            budget.string(static_cast<Int>(out.size()));
    };
    if (old.empty()) {
        for (const std::string_view c : split_chars(s)) {
            if (most < 0 || n++ < most) put(fresh);
            put(c);
        }
        if (most < 0 || n < most) put(fresh);
        return out;
    }
    size_t begin = 0;
    for (; most < 0 || n < most; ++n) {
        const size_t at = s.find(old, begin);
        if (at == std::string_view::npos) break;
        put(s.substr(begin, at - begin));
        put(fresh);
        begin = at + old.size();
    }
    put(s.substr(begin));
    return out;
}

std::string pad(Budget& budget, std::string_view s, Int width, std::string_view fill, char align) {
    const Int missing = width - static_cast<Int>(count_chars(s));
    if (missing <= 0) return std::string(s);
    budget.string(static_cast<Int>(s.size()) +
                  std::min(missing, Budget::max_string_bytes + Int{1}) * static_cast<Int>(fill.size()));
    Int left = align == '>' ? missing : align == '<' ? 0 : missing / 2;
    // The odd character of str.center goes to the left when the width is odd.
    if (align == '^' && missing % 2 != 0 && width % 2 != 0) ++left;
    std::string out;
    for (Int i = 0; i < left; ++i)
        out += fill;
    out += s;
    for (Int i = left; i < missing; ++i)
        out += fill;
    return out;
}

namespace {

template <class Test>
bool all_chars(std::string_view s, Test test) {
    for (size_t pos = 0; pos < s.size();) {
        if (!test(static_cast<UChar32>(read_char(s, pos)))) return false;
    }
    return true;
}

bool is_alpha(UChar32 c) {
    return u_isalpha(c);
}

bool is_numeric(UChar32 c) {
    return u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}

bool is_digit(UChar32 c) {
    const int type = u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE);
    return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}

bool is_decimal(UChar32 c) {
    return u_charType(c) == U_DECIMAL_DIGIT_NUMBER;
}

/// Whether there is a cased character, and none of the other cases.
template <class Has, class Other>
bool has_only_case(std::string_view s, Has has, Other other) {
    bool any = false;
    for (size_t pos = 0; pos < s.size();) {
        const auto c = static_cast<UChar32>(read_char(s, pos));
        if (other(c) || u_istitle(c)) return false;
        any |= static_cast<bool>(has(c));
    }
    return any;
}

}  // namespace

bool is_alnum_text(std::string_view s) {
    return !s.empty() && all_chars(s, [](UChar32 c) { return is_alpha(c) || is_numeric(c); });
}

bool is_alpha_text(std::string_view s) {
    return !s.empty() && all_chars(s, is_alpha);
}

bool is_decimal_text(std::string_view s) {
    return !s.empty() && all_chars(s, is_decimal);
}

bool is_digit_text(std::string_view s) {
    return !s.empty() && all_chars(s, is_digit);
}

bool is_numeric_text(std::string_view s) {
    return !s.empty() && all_chars(s, is_numeric);
}

bool is_printable_text(std::string_view s) {
    return all_chars(s, [](UChar32 c) { return is_printable(static_cast<char32_t>(c)); });
}

bool is_space_text(std::string_view s) {
    return !s.empty() && all_chars(s, [](UChar32 c) { return is_space(static_cast<char32_t>(c)); });
}

bool is_lower_text(std::string_view s) {
    return has_only_case(s, u_isULowercase, u_isUUppercase);
}

bool is_upper_text(std::string_view s) {
    return has_only_case(s, u_isUUppercase, u_isULowercase);
}

bool is_title_text(std::string_view s) {
    bool any = false, inside = false;
    for (size_t pos = 0; pos < s.size();) {
        const auto c = static_cast<UChar32>(read_char(s, pos));
        if (u_isUUppercase(c) || u_istitle(c)) {
            if (inside) return false;
            any = inside = true;
        } else if (u_isULowercase(c)) {
            if (!inside) return false;
        } else {
            inside = false;
        }
    }
    return any;
}

}  // namespace mixserve::text::jinja
