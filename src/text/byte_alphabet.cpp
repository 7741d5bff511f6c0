#include "text/byte_alphabet.h"

#include "text/utf8.h"

namespace mixserve::text::byte_alphabet {
namespace {

constexpr int not_a_byte = -1;
constexpr char32_t first_stand_in = 0x100;
constexpr size_t n_code_points = 0x100 + 68;  // 68 bytes do not print

struct Tables {
    std::array<std::string, 256> characters;
    std::array<int, n_code_points> bytes;
};

bool prints(unsigned byte) {
    return (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
}

const Tables& tables() {
    static const Tables made = [] {
        Tables t;
        t.bytes.fill(not_a_byte);
        char32_t stand_in = first_stand_in;
        for (unsigned byte = 0; byte < 256; ++byte) {
            const char32_t c = prints(byte) ? byte : stand_in++;
            t.characters[byte] = utf8::from_char(c);
            t.bytes[c] = static_cast<int>(byte);
        }
        return t;
    }();
    return made;
}

}  // namespace

const std::array<std::string, 256>& characters() {
    return tables().characters;
}

std::optional<std::string> bytes_of(std::string_view text) {
    const Tables& t = tables();
    std::string bytes;
    for (size_t pos = 0; pos < text.size();) {
        const char32_t c = utf8::next(text, pos);
        if (c >= n_code_points || t.bytes[c] == not_a_byte) return std::nullopt;
        bytes += static_cast<char>(t.bytes[c]);
    }
    return bytes;
}

std::string text_of(std::string_view bytes) {
    const Tables& t = tables();
    std::string text;
    for (const char byte : bytes)
        text += t.characters[static_cast<unsigned char>(byte)];
    return text;
}

}  // namespace mixserve::text::byte_alphabet
