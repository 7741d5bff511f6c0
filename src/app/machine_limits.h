#pragma once

#include <optional>

#include "device/stream.h"

namespace mixserve::app {

/// What the machine gives at best, in bytes and operations a second: the limits that benchmarks compare with.
struct MachineLimits {
    double read_bytes_per_s = 0;
    /// Of oneDNN's f32 matrix product (2 operations a multiplication); empty where the build lacks oneDNN.
    std::optional<double> matmul_flops;
};

/// Best of several passes over memory larger than the caches, by the threads of `stream`; then of several
/// products of 2048 x 2048 matrices with as many threads.
MachineLimits measure_limits(device::Stream& stream);

}  // namespace mixserve::app
