#pragma once

#include <functional>

#include "device/gpu.h"

namespace mixserve::emulator {

/// Enqueues `work`, which may touch device memory when it runs: at the latest allowed moment, when the host
/// waits.
void enqueue_work(device::GpuQueue& queue, std::function<void()> work);

/// The same for work that waits for others: while it returns false it has not ended, what follows in its
/// queue waits, and the other queues go on meanwhile, as they do on a GPU.
void enqueue_waiting_work(device::GpuQueue& queue, std::function<bool()> work);

/// Until nothing is left in any queue.
void run_all_queues();

}  // namespace mixserve::emulator
