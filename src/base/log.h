#pragma once

#include <spdlog/spdlog.h>

namespace mixserve {

/// Messages go to stderr through spdlog (spdlog::info, warn, error), each line with the rank that says it.
/// Called once, when the rank is known; `world_size` 1 leaves the rank out.
void configure_logging(int rank, int world_size);

}  // namespace mixserve
