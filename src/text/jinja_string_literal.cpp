#include "text/jinja_string_literal.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

namespace mixserve::text::jinja {
namespace {

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

void append_code_point(std::string& out, char32_t c) {
    if (c >= 0xD800 && c <= 0xDFFF)
        raise("a surrogate in a string: write the character itself, or \\U and eight digits");
    if (c > 0x10FFFF) raise("illegal Unicode character");
    append_char(out, c);
}

/// `count` hex digits at `pos`.
void append_hex(std::string& out, std::string_view s, size_t& pos, size_t count, char kind) {
    char32_t c = 0;
    for (size_t i = 0; i < count; ++i, ++pos) {
        const int digit = pos < s.size() ? hex_digit(s[pos]) : -1;
        if (digit < 0) raise("truncated \\{} escape: {} hexadecimal digits are needed", kind, count);
        c = c * 16 + static_cast<char32_t>(digit);
    }
    append_code_point(out, c);
}

void append_named(std::string& out, std::string_view s, size_t& pos) {
    const size_t end = pos < s.size() && s[pos] == '{' ? s.find('}', pos) : std::string_view::npos;
    if (end == std::string_view::npos) raise("malformed \\N character escape");
    const std::string name(s.substr(pos + 1, end - pos - 1));
    UErrorCode status = U_ZERO_ERROR;
    const UChar32 c = u_charFromName(U_UNICODE_CHAR_NAME, name.c_str(), &status);
    if (U_FAILURE(status)) raise("unknown Unicode character name '{}'", name);
    append_code_point(out, static_cast<char32_t>(c));
    pos = end + 1;
}

}  // namespace

std::string unescape_string(std::string_view s) {
    std::string out;
    out.reserve(s.size());
    for (size_t pos = 0; pos < s.size();) {
        if (s[pos] != '\\') {
            out.push_back(s[pos++]);
            continue;
        }
        const char c = s[pos + 1];
        pos += 2;
        switch (c) {
            case '\n':
                break;
            case '\\':
            case '\'':
            case '"':
                out.push_back(c);
                break;
            case 'a':
                out.push_back('\a');
                break;
            case 'b':
                out.push_back('\b');
                break;
            case 'f':
                out.push_back('\f');
                break;
            case 'n':
                out.push_back('\n');
                break;
            case 'r':
                out.push_back('\r');
                break;
            case 't':
                out.push_back('\t');
                break;
            case 'v':
                out.push_back('\v');
                break;
            case 'x':
                append_hex(out, s, pos, 2, 'x');
                break;
            case 'u':
                append_hex(out, s, pos, 4, 'u');
                break;
            case 'U':
                append_hex(out, s, pos, 8, 'U');
                break;
            case 'N':
                append_named(out, s, pos);
                break;
            case '0':
            case '1':
            case '2':
            case '3':
            case '4':
            case '5':
            case '6':
            case '7': {
                char32_t value = static_cast<char32_t>(c - '0');
                for (int i = 0; i < 2 && pos < s.size() && s[pos] >= '0' && s[pos] <= '7'; ++i) {
                    value = value * 8 + static_cast<char32_t>(s[pos++] - '0');
                }
                append_code_point(out, value);
                break;
            }
            default: {
                // jinja2 turns what is not ASCII into \x, \u or \U escapes before it reads the escapes, so
                // that a backslash before such a character meets the backslash of its escape, and the rest
                // stays as letters.
                out.push_back('\\');
                if (static_cast<unsigned char>(c) < 0x80) {
                    out.push_back(c);
                    break;
                }
                --pos;
                const auto code = static_cast<uint32_t>(read_char(s, pos));
                out += code < 0x100     ? fmt::format("x{:02x}", code)
                       : code < 0x10000 ? fmt::format("u{:04x}", code)
                                        : fmt::format("U{:08x}", code);
            }
        }
    }
    return out;
}

}  // namespace mixserve::text::jinja
