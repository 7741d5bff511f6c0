#pragma once

#include <chrono>

namespace mixserve {

/// Seconds on the monotonic clock.
inline double now_s() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace mixserve
