#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mixserve {

/// Element types that weights can have. Arithmetic is always f32.
enum class DType : uint8_t { f32, f16, bf16 };

constexpr int64_t size_of(DType dtype) {
    return dtype == DType::f32 ? 4 : 2;
}
std::string_view name(DType dtype);
/// Accepts the spellings of Hugging Face ("float32", "bfloat16"), safetensors ("F32", "BF16") and ours
/// ("f32", "bf16").
std::optional<DType> parse_dtype(std::string_view text);

/// The top 16 bits of a float, and back. Narrowing rounds to nearest even and keeps NaN a NaN.
inline float bf16_to_f32(uint16_t bits) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
uint16_t f32_to_bf16(float value);
float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);

}  // namespace mixserve
