#include "kernels/wire.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/bytes.h"

namespace mixserve::kernels {
namespace {

// As f32_to_bf16, without a branch for NaN, so that it vectorises: a NaN keeps its top bits, with the quiet
// bit set.
uint16_t narrow(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40U;
    return static_cast<uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded);
}

void encode_bf16(const float* __restrict row, int64_t n, std::byte* wire) {
    auto* __restrict out = reinterpret_cast<uint16_t*>(wire);
    for (int64_t i = 0; i < n; ++i)
        out[i] = narrow(row[i]);
}

void decode_bf16(const std::byte* wire, int64_t n, float* __restrict row) {
    const auto* __restrict in = reinterpret_cast<const uint16_t*>(wire);
    for (int64_t i = 0; i < n; ++i)
        row[i] = std::bit_cast<float>(static_cast<uint32_t>(in[i]) << 16);
}

constexpr int32_t infinity_bits = 0x7f800000;

void encode_int8(const float* __restrict row, int64_t n, std::byte* wire) {
    // Magnitudes compare as integers do, and NaN is above all.
    int32_t largest_bits = 0;
    for (int64_t i = 0; i < n; ++i)
        largest_bits = std::max(largest_bits, std::bit_cast<int32_t>(std::fabs(row[i])));
    const bool is_finite = largest_bits < infinity_bits;
    const float scale =
        is_finite ? std::bit_cast<float>(largest_bits) / 127.0F : std::numeric_limits<float>::quiet_NaN();
    std::memcpy(wire, &scale, sizeof scale);
    const float inverse = is_finite && scale > std::numeric_limits<float>::min() ? 1.0F / scale : 0.0F;
    auto* __restrict out = reinterpret_cast<int8_t*>(wire + sizeof scale);
    // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits.
    constexpr float magic = 12582912.0F;
    const float finite = is_finite ? 1.0F : 0.0F;
    for (int64_t i = 0; i < n; ++i) {
        const float value = finite != 0.0F ? row[i] * inverse : 0.0F;
        out[i] = static_cast<int8_t>(std::bit_cast<int32_t>(value + magic) - std::bit_cast<int32_t>(magic));
    }
}

void decode_int8(const std::byte* wire, int64_t n, float* __restrict row) {
    float scale = 0;
    std::memcpy(&scale, wire, sizeof scale);
    const auto* __restrict in = reinterpret_cast<const int8_t*>(wire + sizeof scale);
    for (int64_t i = 0; i < n; ++i)
        row[i] = scale * static_cast<float>(in[i]);
}

}  // namespace

std::string_view name(WireType type) {
    switch (type) {
        case WireType::f32:
            return "f32";
        case WireType::bf16:
            return "bf16";
        case WireType::int8:
            return "int8";
    }
    return "?";
}

std::optional<WireType> parse_wire_type(std::string_view text) {
    for (const WireType type : {WireType::f32, WireType::bf16, WireType::int8}) {
        if (text == name(type)) return type;
    }
    return std::nullopt;
}

int64_t wire_row_bytes(WireType type, int64_t hidden_size) {
    switch (type) {
        case WireType::f32:
            return 4 * hidden_size;
        case WireType::bf16:
            return 2 * hidden_size;
        case WireType::int8:
            break;
    }
    return 4 + (hidden_size + 3) / 4 * 4;
}

void encode_rows(WireType type, const float* rows, int64_t n_rows, int64_t hidden_size, std::byte* wire) {
    if (type == WireType::f32) {
        copy_bytes(wire, rows, static_cast<size_t>(n_rows * hidden_size) * sizeof(float));
        return;
    }
    const auto encode = type == WireType::bf16 ? encode_bf16 : encode_int8;
    const int64_t row_bytes = wire_row_bytes(type, hidden_size);
    for (int64_t r = 0; r < n_rows; ++r)
        encode(rows + r * hidden_size, hidden_size, wire + r * row_bytes);
}

void decode_rows(WireType type, const std::byte* wire, int64_t n_rows, int64_t hidden_size, float* rows) {
    if (type == WireType::f32) {
        copy_bytes(rows, wire, static_cast<size_t>(n_rows * hidden_size) * sizeof(float));
        return;
    }
    const auto decode = type == WireType::bf16 ? decode_bf16 : decode_int8;
    const int64_t row_bytes = wire_row_bytes(type, hidden_size);
    for (int64_t r = 0; r < n_rows; ++r)
        decode(wire + r * row_bytes, hidden_size, rows + r * hidden_size);
}

}  // namespace mixserve::kernels
