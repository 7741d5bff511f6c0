#pragma once

#include <cstdint>
#include <string>

namespace mixserve::io {

/// "1,234,567".
std::string grouped(int64_t count);

/// Three digits or more: "0.25", "7.31", "34.1", "5,120".
std::string rate_text(double per_second);

/// "0.42 s", "12 s", "4 min 17 s", "2 h 05 min".
std::string duration_text(double seconds);

}  // namespace mixserve::io
