#pragma once

#include <string>

#include "io/prompts.h"

namespace mixserve::app {

/// The value of --shard: "I/N" with I from 0 to N - 1, or "auto": this task's place among those of its Slurm
/// array, by SLURM_ARRAY_TASK_ID, _MIN, _STEP and _COUNT. UsageError for anything else, and for "auto" where
/// the array's numbers are not evenly spaced: tasks would then share a shard or leave one out.
io::Shard parse_shard(const std::string& text);

}  // namespace mixserve::app
