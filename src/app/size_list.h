#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mixserve::app {

/// "1,16" as {1, 16}; "" as {}. UsageError names `option` where an entry is not an integer of at least 1.
std::vector<int64_t> parse_size_list(const std::string& option, const std::string& text);

}  // namespace mixserve::app
