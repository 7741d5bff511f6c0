#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "io/conversion_plan.h"
#include "io/model_writer.h"

namespace mixserve::io {

/// Told after each block written; throwing ends the conversion and leaves nothing behind.
using ConvertProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

/// Writes the model that `plan` describes. Streams: beside small blocks it holds one matrix of the checkpoint
/// at a time, and that only where it is transposed. Errors as of ModelWriter; Error when the checkpoint
/// cannot be read to its end.
void convert(const ConversionPlan& plan, const std::string& output, const WriteOptions& options,
             const ConvertProgress& progress = {});

}  // namespace mixserve::io
