#pragma once

#include <xxhash.h>

#include <string>
#include <string_view>

namespace mixserve::io {

/// 32 hex digits.
std::string hex_digits(const XXH128_hash_t& hash);
/// XXH3 (128 bits) of a text: tells two texts apart, but not against someone who means to deceive.
std::string text_digest(std::string_view text);

}  // namespace mixserve::io
