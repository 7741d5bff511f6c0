#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// The printable characters that stand for bytes in byte-level vocabularies (GPT-2's bytes_to_unicode): a
/// byte that prints is itself, the others are U+0100 and up in order.
namespace mixserve::text::byte_alphabet {

/// UTF-8 of the character of each byte.
const std::array<std::string, 256>& characters();
/// The bytes that `text` stands for; nullopt when a character is not of the alphabet. `text` must be valid
/// UTF-8.
std::optional<std::string> bytes_of(std::string_view text);
std::string text_of(std::string_view bytes);

}  // namespace mixserve::text::byte_alphabet
