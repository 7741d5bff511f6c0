#include "io/digest.h"

#include <fmt/format.h>

namespace mixserve::io {

std::string hex_digits(const XXH128_hash_t& hash) {
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string text_digest(std::string_view text) {
    return hex_digits(XXH3_128bits(text.data(), text.size()));
}

}  // namespace mixserve::io
