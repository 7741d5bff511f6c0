#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// UTF-8 for the tokenizer, which works on bytes and trusts them once checked.
namespace mixserve::text::utf8 {

bool is_valid(std::string_view bytes);

/// The code point at `pos`, which moves to the next. `text` must be valid.
inline char32_t next(std::string_view text, size_t& pos) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const char32_t lead = byte(pos);
    if (lead < 0x80) {
        pos += 1;
        return lead;
    }
    if (lead < 0xe0) {
        pos += 2;
        return (lead & 0x1f) << 6 | (byte(pos - 1) & 0x3fU);
    }
    if (lead < 0xf0) {
        pos += 3;
        return (lead & 0x0f) << 12 | (byte(pos - 2) & 0x3fU) << 6 | (byte(pos - 1) & 0x3fU);
    }
    pos += 4;
    return (lead & 0x07) << 18 | (byte(pos - 3) & 0x3fU) << 12 | (byte(pos - 2) & 0x3fU) << 6 |
           (byte(pos - 1) & 0x3fU);
}

inline bool is_continuation(char byte) {
    return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

/// The code point that ends at `end` (> 0), which moves to its start. `text` must be valid.
inline char32_t previous(std::string_view text, size_t& end) {
    do
        --end;
    while (is_continuation(text[end]));
    size_t pos = end;
    return next(text, pos);
}

/// Bytes of the code point that starts with `lead`.
inline size_t length(char lead) {
    const auto byte = static_cast<unsigned char>(lead);
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

void append(std::string& out, char32_t c);
std::string from_char(char32_t c);
size_t count(std::string_view text);

/// Appends `bytes` with U+FFFD for each maximal broken part (Unicode 15, section 3.9), and returns how many
/// bytes it took: all but a character that is begun and not complete at the end.
size_t append_lossy(std::string& out, std::string_view bytes);
/// U+FFFD
inline constexpr std::string_view replacement = "\xef\xbf\xbd";

/// The Unicode property White_Space.
bool is_white_space(char32_t c);
/// General category M.
bool is_mark(char32_t c);
/// A character of words: Alphabetic, M, Nd, Pc or Join_Control (UTS 18, annex C).
bool is_word(char32_t c);

}  // namespace mixserve::text::utf8
