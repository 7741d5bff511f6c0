#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "comm/gpu_communicator.h"
#include "kernels/gpu_data.h"

namespace mixserve::comm::test {

using namespace mixserve::test;

/// Why this rank has no GPU of its own over which NCCL goes, the same on all ranks; "" where it has.
inline std::string why_no_gpu_a_rank() {
    const Communicator world = Communicator::world();
    const device::GpuSurvey survey = device::survey_gpus();
    if (survey.gpus.empty()) return "no GPU: " + survey.why_none;
    if (survey.gpus.size() < static_cast<size_t>(world.size()))
        return fmt::format("{} ranks, and {} GPUs: NCCL wants one a rank", world.size(), survey.gpus.size());
    return why_no_nccl();
}

}  // namespace mixserve::comm::test

/// Skips the test, with the reason, where ranks have no GPU each. (The emulator has as many as
/// MIXSERVE_EMULATED_GPUS says.)
#define MIXSERVE_NEEDS_GPU_A_RANK() \
    if (const std::string why = why_no_gpu_a_rank(); !why.empty()) GTEST_SKIP() << why
