#pragma once

#include <optional>
#include <string>

#include "comm/communicator.h"
#include "device/stream.h"

namespace mixserve::app {

/// What all ranks together get from their machines at best, in bytes and operations a second: the limits that
/// benchmarks compare with.
struct MachineLimits {
    double read_bytes_per_s = 0;
    /// Of a matrix product (2 operations a multiplication), empty where there is no library to measure it
    /// with.
    std::optional<double> matmul_flops;
    std::string matmul_name;  // of that product, or why there is none
};

/// The product and its rate in words.
std::string products_text(const MachineLimits& limits);

/// Collective over `world`. Best of several passes over memory larger than the caches, by the threads of each
/// rank's stream, all ranks at once; then of several products of 2048 x 2048 matrices with as many threads,
/// in f32 by oneDNN. On GPUs: of copies inside their memory, bytes read and written; then of bf16 products of
/// 8192 x 8192 matrices by cuBLASLt, on values that are not alike.
MachineLimits measure_limits(device::Stream& stream, const comm::Communicator& world);

}  // namespace mixserve::app
