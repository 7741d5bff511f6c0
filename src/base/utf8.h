#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mixserve {

/// The first byte that is not part of well-formed UTF-8 (no surrogates, no overlong forms, up to U+10FFFF).
std::optional<size_t> first_invalid_utf8(std::string_view text);

/// Characters (code points) of well-formed UTF-8.
int64_t n_characters(std::string_view text);

/// `text` with U+FFFD in place of each byte that is no UTF-8.
std::string valid_utf8(std::string_view text);

/// `text` in quotes for a message: one line, valid UTF-8, cut after `max_bytes`.
std::string in_quotes(std::string_view text, size_t max_bytes = 60);

}  // namespace mixserve
