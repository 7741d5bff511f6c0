#pragma once

#include <string>
#include <string_view>

namespace mixserve::text {

/// Oniguruma 6.9.10 as tokenizers has it knows Unicode 16; PCRE2 10.42 knows Unicode 14. A pattern is
/// therefore matched on a text in which each character that is newer than Unicode 14 is exchanged for an
/// older one of the same general category and as many bytes: the matches lie at the same places. Returns
/// `text` itself when it has no such character, else `buffer`.
std::string_view with_known_characters(std::string_view text, std::string& buffer);

}  // namespace mixserve::text
