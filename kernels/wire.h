#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mixserve::kernels {

/// How rows of activations travel between nodes: as they are, rounded to bf16, or as int8 with a scale a row
/// (the largest magnitude over 127), as CloudMatrix-Infer does.
enum class WireType : uint8_t { f32, bf16, int8 };
std::string_view name(WireType type);
std::optional<WireType> parse_wire_type(std::string_view text);

/// Bytes of a row of `hidden_size` values on the wire.
int64_t wire_row_bytes(WireType type, int64_t hidden_size);

/// Rows as they travel, back to back, and back to f32. Encoding rounds to nearest even; an int8 row is its
/// f32 scale, then its values. A row with a value that is not finite comes out as not finite in int8 too.
void encode_rows(WireType type, const float* rows, int64_t n_rows, int64_t hidden_size, std::byte* wire);
void decode_rows(WireType type, const std::byte* wire, int64_t n_rows, int64_t hidden_size, float* rows);

}  // namespace mixserve::kernels
