#include "text/jinja_unicode.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>

namespace mixserve::text::jinja {

bool is_ascii(std::string_view s) {
    unsigned char any = 0;
    for (const char c : s)
        any = static_cast<unsigned char>(any | static_cast<unsigned char>(c));
    return any < 0x80;
}

bool is_valid_utf8(std::string_view s) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(s.data());
    const auto size = static_cast<int64_t>(s.size());
    for (int64_t i = 0; i < size;) {
        UChar32 c = 0;
        U8_NEXT(bytes, i, size, c);
        if (c < 0) return false;
    }
    return true;
}

char32_t read_char(std::string_view s, size_t& pos) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(s.data());
    auto i = static_cast<int64_t>(pos);
    UChar32 c = 0;
    U8_NEXT(bytes, i, static_cast<int64_t>(s.size()), c);
    if (c < 0) {
        ++pos;
        return 0xFFFD;
    }
    pos = static_cast<size_t>(i);
    return static_cast<char32_t>(c);
}

void append_char(std::string& out, char32_t c) {
    const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | (c >> 6));
        put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(0xE0 | (c >> 12));
        put(0x80 | ((c >> 6) & 0x3F));
        put(0x80 | (c & 0x3F));
    } else {
        put(0xF0 | (c >> 18));
        put(0x80 | ((c >> 12) & 0x3F));
        put(0x80 | ((c >> 6) & 0x3F));
        put(0x80 | (c & 0x3F));
    }
}

size_t count_chars(std::string_view s) {
    size_t n = 0;
    for (size_t pos = 0; pos < s.size(); ++n)
        read_char(s, pos);
    return n;
}

size_t offset_of_char(std::string_view s, size_t n) {
    size_t pos = 0;
    for (; n > 0 && pos < s.size(); --n)
        read_char(s, pos);
    return pos;
}

std::vector<std::string_view> split_chars(std::string_view s) {
    std::vector<std::string_view> chars;
    for (size_t pos = 0; pos < s.size();) {
        const size_t start = pos;
        read_char(s, pos);
        chars.push_back(s.substr(start, pos - start));
    }
    return chars;
}

bool is_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

bool is_printable(char32_t c) {
    if (c == ' ') return true;
    const int type = u_charType(static_cast<UChar32>(c));
    return type != U_CONTROL_CHAR && type != U_FORMAT_CHAR && type != U_SURROGATE &&
           type != U_PRIVATE_USE_CHAR && type != U_UNASSIGNED && type != U_LINE_SEPARATOR &&
           type != U_PARAGRAPH_SEPARATOR && type != U_SPACE_SEPARATOR;
}

bool is_word(char32_t c) {
    const auto u = static_cast<UChar32>(c);
    const int type = u_charType(u);
    return c == '_' || u_isalpha(u) || type == U_DECIMAL_DIGIT_NUMBER || type == U_LETTER_NUMBER ||
           type == U_OTHER_NUMBER;
}

namespace {

icu::UnicodeString to_icu(std::string_view s) {
    return icu::UnicodeString::fromUTF8(icu::StringPiece(s.data(), static_cast<int32_t>(s.size())));
}

std::string from_icu(const icu::UnicodeString& s) {
    std::string out;
    s.toUTF8String(out);
    return out;
}

bool is_cased(char32_t c) {
    return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_CASED);
}

}  // namespace

std::string to_upper(std::string_view s) {
    return from_icu(to_icu(s).toUpper(icu::Locale::getRoot()));
}

std::string to_lower(std::string_view s) {
    return from_icu(to_icu(s).toLower(icu::Locale::getRoot()));
}

std::string to_casefold(std::string_view s) {
    return from_icu(to_icu(s).foldCase());
}

std::string to_title(std::string_view s) {
    std::string out;
    bool inside = false;
    for (size_t pos = 0; pos < s.size();) {
        const char32_t c = read_char(s, pos);
        const auto u = static_cast<UChar32>(c);
        append_char(out, static_cast<char32_t>(inside ? u_tolower(u) : u_totitle(u)));
        inside = is_cased(c);
    }
    return out;
}

std::string to_capitalized(std::string_view s) {
    if (s.empty()) return {};
    size_t pos = 0;
    const char32_t first = read_char(s, pos);
    std::string out;
    append_char(out, static_cast<char32_t>(u_totitle(static_cast<UChar32>(first))));
    return out + to_lower(s.substr(pos));
}

std::string swap_case(std::string_view s) {
    std::string out;
    for (size_t pos = 0; pos < s.size();) {
        const size_t start = pos;
        const auto c = static_cast<UChar32>(read_char(s, pos));
        const std::string_view bytes = s.substr(start, pos - start);
        out += u_isUUppercase(c) ? to_lower(bytes) : u_isULowercase(c) ? to_upper(bytes) : std::string(bytes);
    }
    return out;
}

namespace {

template <class Drop>
std::string_view strip_if(std::string_view s, Side side, Drop drop) {
    if (side != Side::right) {
        for (size_t pos = 0; !s.empty(); pos = 0) {
            if (!drop(read_char(s, pos))) break;
            s.remove_prefix(pos);
        }
    }
    if (side != Side::left) {
        while (!s.empty()) {
            size_t start = s.size() - 1;
            while (start > 0 && s.size() - start < 4 && (static_cast<unsigned char>(s[start]) & 0xC0) == 0x80)
                --start;
            size_t pos = start;
            const char32_t c = read_char(s, pos);
            if (pos != s.size() || !drop(c)) break;
            s.remove_suffix(s.size() - start);
        }
    }
    return s;
}

}  // namespace

std::string_view strip(std::string_view s, Side side) {
    return strip_if(s, side, is_space);
}

std::string_view strip(std::string_view s, std::string_view chars, Side side) {
    std::u32string set;
    for (size_t pos = 0; pos < chars.size();)
        set.push_back(read_char(chars, pos));
    std::sort(set.begin(), set.end());
    return strip_if(s, side, [&set](char32_t c) { return std::binary_search(set.begin(), set.end(), c); });
}

std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends) {
    std::vector<std::string_view> lines;
    size_t start = 0;
    for (size_t pos = 0; pos < s.size();) {
        const size_t end = pos;
        const char32_t c = read_char(s, pos);
        const bool ends_line =
            (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
        if (!ends_line) continue;
        if (c == '\r' && pos < s.size() && s[pos] == '\n') ++pos;
        lines.push_back(s.substr(start, (keep_ends ? pos : end) - start));
        start = pos;
    }
    if (start < s.size()) lines.push_back(s.substr(start));
    return lines;
}

std::string escape_html(std::string_view s) {
    std::string out;
    out.reserve(s.size());
    for (const char c : s) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&#34;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out.push_back(c);
        }
    }
    return out;
}

}  // namespace mixserve::text::jinja
