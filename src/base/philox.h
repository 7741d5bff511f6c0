#pragma once

#include <array>
#include <cstdint>

namespace mixserve {

/// Philox4x32-10, a counter-based random number generator: Salmon, Moraes, Dror and Shaw, "Parallel Random
/// Numbers: As Easy as 1, 2, 3" (SC 2011). The same counter and key give the same bits on every machine.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
    constexpr uint64_t multiplier_0 = 0xD2511F53;
    constexpr uint64_t multiplier_1 = 0xCD9E8D57;
    constexpr uint32_t weyl_0 = 0x9E3779B9;
    constexpr uint32_t weyl_1 = 0xBB67AE85;
    for (int round = 0; round < 10; ++round) {
        const uint64_t product_0 = multiplier_0 * counter[0];
        const uint64_t product_1 = multiplier_1 * counter[2];
        counter = {
            static_cast<uint32_t>(product_1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product_1),
            static_cast<uint32_t>(product_0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product_0)};
        key[0] += weyl_0;
        key[1] += weyl_1;
    }
    return counter;
}

/// Names one draw of one request, wherever and with whatever else in its batch it is made.
struct DrawKey {
    uint64_t seed = 0;
    uint64_t request = 0;   // request_hash() of its id
    uint32_t sample = 0;    // of n
    uint32_t position = 0;  // of the token in what is generated
};

/// Uniform in [0, 1), 53 bits.
constexpr double uniform(const DrawKey& key) {
    const std::array<uint32_t, 4> bits =
        philox4x32({static_cast<uint32_t>(key.request), static_cast<uint32_t>(key.request >> 32), key.sample,
                    key.position},
                   {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
    const uint64_t word = (static_cast<uint64_t>(bits[0]) << 32) | bits[1];
    return static_cast<double>(word >> 11) * 0x1p-53;
}

}  // namespace mixserve
