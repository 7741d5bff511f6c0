#include "base/utf8.h"

#include <algorithm>
#include <cstring>

namespace mixserve {
namespace {

// Bytes of the well-formed character at the start of `text`; 0 where there is none. Table 3-7 of the Unicode
// standard.
size_t character_size(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto continues = [&](size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first < 0xC2) return 0;
    if (first < 0xE0) return continues(1) ? 2 : 0;
    if (first < 0xF0) {
        const unsigned low = first == 0xE0 ? 0xA0 : 0x80;
        const unsigned high = first == 0xED ? 0x9F : 0xBF;
        return byte(1) >= low && byte(1) <= high && continues(2) ? 3 : 0;
    }
    if (first > 0xF4) return 0;
    const unsigned low = first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xF4 ? 0x8F : 0xBF;
    return byte(1) >= low && byte(1) <= high && continues(2) && continues(3) ? 4 : 0;
}

bool eight_are_ascii(const char* data) {
    uint64_t word;
    std::memcpy(&word, data, sizeof(word));
    return (word & 0x8080808080808080ULL) == 0;
}

}  // namespace

std::optional<size_t> first_invalid_utf8(std::string_view text) {
    size_t i = 0;
    while (i < text.size()) {
        if (i + 8 <= text.size() && eight_are_ascii(text.data() + i)) {
            i += 8;
            continue;
        }
        const size_t n = character_size(text.substr(i, 4));
        if (n == 0) return i;
        i += n;
    }
    return std::nullopt;
}

int64_t n_characters(std::string_view text) {
    return std::count_if(text.begin(), text.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

std::string valid_utf8(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (const std::optional<size_t> bad = first_invalid_utf8(text)) {
        out.append(text.substr(0, *bad)).append("\xEF\xBF\xBD");
        text.remove_prefix(*bad + 1);
    }
    return out.append(text);
}

std::string in_quotes(std::string_view text, size_t max_bytes) {
    const bool cut = text.size() > max_bytes;
    if (cut) {
        size_t end = max_bytes;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U)
            --end;
        text = text.substr(0, end);
    }
    std::string out(1, '\'');
    out.append(valid_utf8(text)).append(cut ? "...'" : "'");
    std::replace_if(
        out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; },
        ' ');
    return out;
}

}  // namespace mixserve
