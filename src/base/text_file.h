#pragma once

#include <string>

namespace mixserve {

/// The whole of a text file. UsageError naming it and the system's reason where it cannot be read.
std::string read_text_file(const std::string& path);

}  // namespace mixserve
