#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "base/dtype.h"
#include "kernels/wire.h"

namespace mixserve::kernels {
namespace {

std::vector<float> through_the_wire(WireType type, const std::vector<float>& rows, int64_t hidden_size) {
    const int64_t n_rows = static_cast<int64_t>(rows.size()) / hidden_size;
    std::vector<std::byte> wire(static_cast<size_t>(n_rows * wire_row_bytes(type, hidden_size)));
    encode_rows(type, rows.data(), n_rows, hidden_size, wire.data());
    std::vector<float> back(rows.size());
    decode_rows(type, wire.data(), n_rows, hidden_size, back.data());
    return back;
}

std::vector<float> some_rows(int64_t n) {
    std::vector<float> values;
    for (int64_t i = 0; i < n; ++i) {
        values.push_back(static_cast<float>(std::sin(0.37 * static_cast<double>(i)) *
                                            std::exp(static_cast<double>(i % 9))));
    }
    return values;
}

TEST(Wire, F32IsUntouched) {
    const std::vector<float> rows = some_rows(3 * 37);
    EXPECT_EQ(std::memcmp(through_the_wire(WireType::f32, rows, 37).data(), rows.data(), rows.size() * 4), 0);
}

TEST(Wire, Bf16IsTheNearest) {
    std::vector<float> rows = some_rows(2 * 37);
    rows[0] = std::numeric_limits<float>::infinity();
    rows[1] = -0.0F;
    rows[2] = 1.00390625F;  // halfway between two: to even
    const std::vector<float> back = through_the_wire(WireType::bf16, rows, 37);
    for (size_t i = 0; i < rows.size(); ++i) {
        const float expected = bf16_to_f32(f32_to_bf16(rows[i]));
        EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(expected))
            << rows[i] << " became " << back[i];
    }
    rows[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(through_the_wire(WireType::bf16, rows, 37)[0]));
}

TEST(Wire, Int8IsWithinHalfAStepOfTheRowsLargest) {
    const int64_t hidden_size = 37;
    const std::vector<float> rows = some_rows(4 * hidden_size);
    const std::vector<float> back = through_the_wire(WireType::int8, rows, hidden_size);
    for (int64_t r = 0; r < 4; ++r) {
        float largest = 0;
        for (int64_t h = 0; h < hidden_size; ++h) {
            largest = std::max(largest, std::fabs(rows[static_cast<size_t>(r * hidden_size + h)]));
        }
        for (int64_t h = 0; h < hidden_size; ++h) {
            const auto i = static_cast<size_t>(r * hidden_size + h);
            EXPECT_LE(std::fabs(back[i] - rows[i]), 0.501F * largest / 127) << i;
            if (std::fabs(rows[i]) == largest) {
                EXPECT_NEAR(back[i], rows[i], 1e-6F * largest);
            }
        }
    }
}

TEST(Wire, Int8KeepsZeroAndWhatIsNotANumber) {
    std::vector<float> rows(3 * 5, 0.0F);
    rows[5] = std::numeric_limits<float>::quiet_NaN();
    rows[10] = std::numeric_limits<float>::infinity();
    const std::vector<float> back = through_the_wire(WireType::int8, rows, 5);
    for (size_t i = 0; i < 5; ++i)
        EXPECT_EQ(back[i], 0.0F);
    for (size_t i = 5; i < 15; ++i)
        EXPECT_FALSE(std::isfinite(back[i])) << i;
}

TEST(Wire, NamesAreReadBack) {
    for (const WireType type : {WireType::f32, WireType::bf16, WireType::int8})
        EXPECT_EQ(parse_wire_type(name(type)), type);
    EXPECT_FALSE(parse_wire_type("fp8").has_value());
}

}  // namespace
}  // namespace mixserve::kernels
