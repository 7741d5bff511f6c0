#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/batch.h"

namespace mixserve::engine {

/// A batch as its leader sends it to the other ranks that take part in it, and back.
std::vector<std::byte> pack(const model::Batch& batch);
model::Batch unpack_batch(std::span<const std::byte> bytes);

}  // namespace mixserve::engine
