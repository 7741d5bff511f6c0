#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/exchange.h"

namespace mixserve::comm {

/// Bytes of a row of `hidden_size` values on the wire.
int64_t wire_row_bytes(WireType type, int64_t hidden_size);

/// Rows as they travel, back to back, and back to f32. Encoding rounds to nearest even; an int8 row is its
/// f32 scale, then its values. A row with a value that is not finite comes out as not finite in int8 too.
void encode_rows(WireType type, const float* rows, int64_t n_rows, int64_t hidden_size, std::byte* wire);
void decode_rows(WireType type, const std::byte* wire, int64_t n_rows, int64_t hidden_size, float* rows);

}  // namespace mixserve::comm
