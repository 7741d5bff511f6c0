#include "text/utf8.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "text/newer_characters.h"

namespace mixserve::text::utf8 {
namespace {

const uint8_t* data_of(std::string_view bytes) {
    return reinterpret_cast<const uint8_t*>(bytes.data());
}

}  // namespace

bool is_valid(std::string_view bytes) {
    const uint8_t* data = data_of(bytes);
    const size_t size = bytes.size();
    size_t i = 0;
    while (i < size) {
        if (i + 8 <= size) {
            uint64_t eight = 0;
            std::memcpy(&eight, data + i, sizeof(eight));
            if ((eight & 0x8080808080808080U) == 0) {
                i += 8;
                continue;
            }
        }
        UChar32 c = 0;
        U8_NEXT(data, i, size, c);
        if (c < 0) return false;
    }
    return true;
}

void append(std::string& out, char32_t c) {
    std::array<uint8_t, 4> buffer{};
    size_t n = 0;
    U8_APPEND_UNSAFE(buffer.data(), n, c);
    out.append(reinterpret_cast<const char*>(buffer.data()), n);
}

std::string from_char(char32_t c) {
    std::string out;
    append(out, c);
    return out;
}

size_t count(std::string_view text) {
    size_t n = 0;
    for (const char byte : text)
        n += is_continuation(byte) ? 0 : 1;
    return n;
}

size_t append_lossy(std::string& out, std::string_view bytes) {
    const uint8_t* data = data_of(bytes);
    size_t whole = bytes.size();
    U8_TRUNCATE_IF_INCOMPLETE(data, size_t{0}, whole);
    size_t i = 0;
    while (i < whole) {
        const size_t start = i;
        UChar32 c = 0;
        U8_NEXT(data, i, whole, c);
        out += c < 0 ? replacement : bytes.substr(start, i - start);
    }
    return whole;
}

bool is_white_space(char32_t c) {
    return u_isUWhiteSpace(static_cast<UChar32>(c));
}

bool is_mark(char32_t c) {
    return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_M_MASK) != 0;
}

bool is_word(char32_t c) {
    const auto point = static_cast<UChar32>(known_character(c));
    return u_isUAlphabetic(point) ||
           (U_GET_GC_MASK(point) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
           u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL);
}

}  // namespace mixserve::text::utf8
