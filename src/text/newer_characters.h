#pragma once

#include <string>
#include <string_view>

/// Oniguruma 6.9.10, as tokenizers has it, knows Unicode 16; PCRE2 10.42 knows Unicode 14 and ICU 72
/// Unicode 15. Each character that is newer than Unicode 14 has an older one of the same general category and
/// as many bytes to stand in for it.
namespace mixserve::text {

/// The stand-in of a newer character; any other as it is.
char32_t known_character(char32_t c);

/// `text` with stand-ins: what a pattern finds in it lies at the same places. Returns `text` itself when it
/// has no newer character, else `buffer`.
std::string_view with_known_characters(std::string_view text, std::string& buffer);

}  // namespace mixserve::text
