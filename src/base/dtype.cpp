#include "base/dtype.h"

#include <cmath>

namespace mixserve {

std::string_view name(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return "f32";
        case DType::f16:
            return "f16";
        case DType::bf16:
            return "bf16";
    }
    return "?";
}

std::optional<DType> parse_dtype(std::string_view text) {
    if (text == "f32" || text == "F32" || text == "float32") return DType::f32;
    if (text == "f16" || text == "F16" || text == "float16") return DType::f16;
    if (text == "bf16" || text == "BF16" || text == "bfloat16") return DType::bf16;
    return std::nullopt;
}

uint16_t f32_to_bf16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float f16_to_f32(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1f;
    const uint32_t mantissa = bits & 0x3ff;
    if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    const uint32_t f32_exponent = exponent == 31 ? 255 : exponent + 112;
    return std::bit_cast<float>(sign | (f32_exponent << 23) | (mantissa << 13));
}

uint16_t f32_to_f16(float value) {
    const uint16_t sign = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16 & 0x8000);
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) return sign | 0x7e00;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 0x1p-14f) {  // subnormal: the unit is 2^-24; nearbyint rounds to even
        return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
    }
    const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
    const uint32_t rounded = bits + 0xfff + ((bits >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // namespace mixserve
