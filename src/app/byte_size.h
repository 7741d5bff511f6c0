#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mixserve::app {

/// Bytes of "8GiB", "500MB", "1.5G" or "4096". KiB, MiB, GiB, TiB and the bare letters K, M, G, T are powers
/// of 1024, as in Slurm; KB, MB, GB, TB are powers of 1000. UsageError names `option` and the text where it
/// is none of these.
int64_t parse_byte_size(std::string_view option, std::string_view text);

/// "7.5 GiB": three digits, for people.
std::string byte_size_text(int64_t n_bytes);

}  // namespace mixserve::app
