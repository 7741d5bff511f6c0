#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/phase.h"

namespace mixserve::io {

/// What the steps.jsonl of an earlier start says about all its steps.
struct StepScan {
    int64_t n_steps = 0;
    double time_s = 0;                             // at the end of the last step that was logged
    std::array<double, n_phases> phase_seconds{};  // summed over steps, mean over ranks
    int64_t n_bytes = 0;                           // up to the last whole line
};

/// All zero where there is no such file.
StepScan scan_steps(const std::string& path);

}  // namespace mixserve::io
