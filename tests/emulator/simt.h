#pragma once

/// CUDA's language for a C++ compiler: the threads of a block run one after the other on fibers, each until
/// it waits for others (a barrier, a warp's exchange), in rising order in one block and in falling order in
/// the next, so that a missing barrier shows. The tests run the GPU's kernels on it where there is no GPU.
/// Slow, and exact about what a kernel may do: lanes that miss a warp's exchange, or a barrier that not all
/// reach, end the program with a message. What it cannot show: races inside a warp, and how fast anything is.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "base/dtype.h"
#include "device/gpu.h"

// NOLINTBEGIN(bugprone-reserved-identifier): the names are CUDA's
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

using std::isnan;

namespace mixserve::emulator {

struct Thread {
    dim3 index{0, 0, 0};
    int lane = 0;
    int warp = 0;
};
extern Thread* self;
extern dim3 block_index;
extern dim3 block_size;
extern dim3 grid_size;
extern std::byte* block_memory;

/// Enqueues a launch of `thread` for every thread of every block.
void enqueue(const char* name, device::GpuQueue& queue, dim3 grid, int n_threads, size_t shared_bytes,
             std::function<void()> thread);

void block_barrier();
/// What each lane of the warp gives, to be read by all until the warp's next exchange. `what` names the
/// operation.
struct Lanes {
    uint64_t words[32][8];
};
const Lanes& exchange(const char* what, const uint64_t* words, int n_words);

template <class T>
T lane_value(const Lanes& lanes, int lane) {
    T value;
    std::memcpy(&value, lanes.words[lane], sizeof(T));
    return value;
}
template <class T>
const Lanes& exchange_value(const char* what, T value) {
    uint64_t word = 0;
    static_assert(sizeof(T) <= sizeof word);
    std::memcpy(&word, &value, sizeof(T));
    return exchange(what, &word, 1);
}

}  // namespace mixserve::emulator

#define threadIdx (::mixserve::emulator::self->index)
#define blockIdx (::mixserve::emulator::block_index)
#define blockDim (::mixserve::emulator::block_size)
#define gridDim (::mixserve::emulator::grid_size)

inline void __syncthreads() {
    mixserve::emulator::block_barrier();
}
inline void __syncwarp() {
    mixserve::emulator::exchange("__syncwarp", nullptr, 0);
}
template <class T>
T __shfl_xor_sync(uint32_t, T value, int lane_mask) {
    const auto& lanes = mixserve::emulator::exchange_value("__shfl_xor_sync", value);
    return mixserve::emulator::lane_value<T>(lanes, mixserve::emulator::self->lane ^ lane_mask);
}
template <class T>
T __shfl_sync(uint32_t, T value, int lane) {
    const auto& lanes = mixserve::emulator::exchange_value("__shfl_sync", value);
    return mixserve::emulator::lane_value<T>(lanes, lane & 31);
}
inline uint32_t __ballot_sync(uint32_t, bool predicate) {
    const auto& lanes = mixserve::emulator::exchange_value("__ballot_sync", predicate);
    uint32_t bits = 0;
    for (int lane = 0; lane < 32; ++lane)
        bits |= (mixserve::emulator::lane_value<bool>(lanes, lane) ? 1U : 0U) << lane;
    return bits;
}
/// Threads run one at a time.
template <class T>
T atomicAdd(T* at, T value) {
    const T before = *at;
    *at = before + value;
    return before;
}
template <class T>
T atomicMin(T* at, T value) {
    const T before = *at;
    *at = value < before ? value : before;
    return before;
}
inline int __popc(uint32_t bits) {
    return std::popcount(bits);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace mixserve::simt {

template <class... Params, class... Args>
void launch(const char* name, device::GpuQueue& queue, dim3 grid, int n_threads, size_t shared_bytes,
            void (*kernel)(Params...), Args... args) {
    emulator::enqueue(name, queue, grid, n_threads, shared_bytes,
                      [kernel, args...] { kernel(static_cast<Params>(args)...); });
}

template <class T>
T* shared_memory() {
    return reinterpret_cast<T*>(emulator::block_memory);
}

inline float as_float(uint32_t bits) {
    return std::bit_cast<float>(bits);
}
inline uint32_t as_bits(float value) {
    return std::bit_cast<uint32_t>(value);
}
inline float half_to_float(uint16_t bits) {
    return f16_to_f32(bits);
}
inline uint16_t float_to_half(float value) {
    return f32_to_f16(value);
}
inline float fast_exp(float x) {
    return std::exp(x);
}
inline float multiply_apart(float a, float b) {
    return a * b;
}

/// The copy is made when it is waited for, at the latest allowed moment: `wait_for_copies`.
void copy_16_async(void* shared, const void* global, bool is_there);
void close_copies();
void wait_for_copies_but(int n_groups);
template <int N>
void wait_for_copies() {
    wait_for_copies_but(N);
}

void load_matrices(uint32_t (&r)[4], const void* row);
void load_matrices_transposed(uint32_t (&r)[4], const void* row);
void multiply_tile_of(bool is_bf16, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <bool Bf16>
void multiply_tile(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_tile_of(Bf16, c, a, b0, b1);
}

}  // namespace mixserve::simt
