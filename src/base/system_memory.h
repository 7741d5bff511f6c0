#pragma once

#include <cstdint>

namespace mixserve {

/// Bytes that this machine can still give to this job: the kernel's estimate (MemAvailable), or what is left
/// under the control group's limit where that is lower, as under Slurm.
int64_t available_memory_bytes();

}  // namespace mixserve
