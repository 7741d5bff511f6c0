#pragma once

#include <functional>

#include "device/gpu.h"

namespace mixserve::emulator {

/// Enqueues `work`, which may touch device memory when it runs: at the latest allowed moment, when the host
/// waits.
void enqueue_work(device::GpuQueue& queue, std::function<void()> work);

}  // namespace mixserve::emulator
