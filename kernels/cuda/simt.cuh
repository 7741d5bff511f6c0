#pragma once

/// What the .cu files are written with. nvcc sees CUDA; a C++ compiler sees the emulator of tests/emulator,
/// which runs the same files, thread by thread, on the CPU.

#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "device/gpu.h"

namespace mixserve::simt {

/// Throws unless `code`, a cudaError_t, is success; names the kernel.
void check_launch(int code, const char* kernel);
/// Raises the limit of dynamic shared memory of `kernel` to what a launch needs.
void allow_shared_bytes(const void* kernel, size_t n_bytes, const char* name);

template <class... Params, class... Args>
void launch(const char* name, device::GpuQueue& queue, dim3 grid, int n_threads, size_t shared_bytes,
            void (*kernel)(Params...), Args... args) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    constexpr size_t granted = 48 << 10;
    if (shared_bytes > granted) allow_shared_bytes(reinterpret_cast<const void*>(kernel), shared_bytes, name);
    kernel<<<grid, n_threads, shared_bytes, static_cast<cudaStream_t>(queue.handle())>>>(
        static_cast<Params>(args)...);
    check_launch(static_cast<int>(cudaGetLastError()), name);
}

/// The dynamic shared memory of the block.
template <class T>
__device__ __forceinline__ T* shared_memory() {
    extern __shared__ __align__(16) unsigned char mixserve_shared[];
    return reinterpret_cast<T*>(mixserve_shared);
}

__device__ __forceinline__ float as_float(uint32_t bits) {
    return __uint_as_float(bits);
}
__device__ __forceinline__ uint32_t as_bits(float value) {
    return __float_as_uint(value);
}
__device__ __forceinline__ float half_to_float(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
}
__device__ __forceinline__ uint16_t float_to_half(float value) {
    return __half_as_ushort(__float2half_rn(value));
}
__device__ __forceinline__ float fast_exp(float x) {
    return __expf(x);
}
/// A product that no sum is fused with, so that its bits are the CPU's.
__device__ __forceinline__ float multiply_apart(float a, float b) {
    return __fmul_rn(a, b);
}

/// Copies 16 bytes from global to shared memory without passing through registers; zeros unless `is_there`.
__device__ __forceinline__ void copy_16_async(void* shared, const void* global, bool is_there) {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    const int n_bytes = is_there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(global), "r"(n_bytes)
                 : "memory");
}
__device__ __forceinline__ void close_copies() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
/// Waits until all but the last `N` closed groups of this thread's copies have arrived.
template <int N>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

/// Four 8x8 matrices of 16-bit elements from shared memory. Lane l gives the address of row l % 8 of matrix l
/// / 8, and gets of matrix i, in r[i], the elements 2 (l % 4) and the next of row l / 4 (PTX ISA, ldmatrix).
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
/// The same of the transposed matrices: in r[i] the elements in rows 2 (l % 4) and the next of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/// c [16, 8] += a [16, 16] b [16, 8] over a warp, on the tensor cores: 16-bit operands, f32 sums (PTX ISA,
/// mma.m16n8k16). With g = lane / 4 and t = lane % 4: a[0], a[1] hold columns 2t, 2t + 1 of rows g and g + 8,
/// a[2], a[3] columns 2t + 8, 2t + 9 of the same; b[0], b[1] hold rows 2t, 2t + 1 and 2t + 8, 2t + 9 of
/// column g; c[0], c[1] are columns 2t, 2t + 1 of row g, c[2], c[3] of row g + 8.
template <bool Bf16>
__device__ __forceinline__ void multiply_tile(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
    if constexpr (Bf16) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};\n"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};\n"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

}  // namespace mixserve::simt
#else
#include "emulator/simt.h"
#endif

namespace mixserve::simt {

constexpr int warp_size = 32;
constexpr uint32_t all_lanes = 0xffffffffU;

/// The sum over the lanes of a warp, by halves: the same bits in every lane.
__device__ __forceinline__ float warp_sum(float value) {
    for (int distance = warp_size / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(all_lanes, value, distance);
    return value;
}
__device__ __forceinline__ float warp_max(float value) {
    for (int distance = warp_size / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(all_lanes, value, distance));
    return value;
}

/// Of the threads of a block for which `is_counted` holds: how many come before this one, and how many there
/// are.
struct BlockRank {
    int before;
    int total;
};
/// All threads of the block call it. warp_counts [warps of the block]: shared memory, which may be used again
/// at once.
__device__ __forceinline__ BlockRank rank_in_block(bool is_counted, int* warp_counts) {
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const int n_warps = static_cast<int>(blockDim.x) / warp_size;
    const uint32_t counted = __ballot_sync(all_lanes, is_counted);
    if (lane == 0) warp_counts[warp] = __popc(counted);
    __syncthreads();
    BlockRank rank{__popc(counted & ((1U << lane) - 1U)), 0};
    for (int w = 0; w < n_warps; ++w) {
        rank.before += w < warp ? warp_counts[w] : 0;
        rank.total += warp_counts[w];
    }
    __syncthreads();
    return rank;
}

/// The sum over the threads of a block of whole warps, the same bits in every thread. `slots`: a float a
/// warp, in shared memory; it may be used again after the next __syncthreads().
__device__ __forceinline__ float block_sum(float value, float* slots) {
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
    const int n_warps = static_cast<int>(blockDim.x) / warp_size;
    value = warp_sum(value);
    if (threadIdx.x % warp_size == 0) slots[warp] = value;
    __syncthreads();
    float sum = 0.0F;
    for (int w = 0; w < n_warps; ++w)
        sum += slots[w];
    return sum;
}

/// The top 16 bits of a float, rounded to nearest even; NaN stays NaN.
__device__ __forceinline__ uint16_t float_to_bf16(float value) {
    const uint32_t bits = as_bits(value);
    const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40U;
    return static_cast<uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded);
}
__device__ __forceinline__ float bf16_to_float(uint16_t bits) {
    return as_float(static_cast<uint32_t>(bits) << 16);
}

// Element types as they are stored.
struct StoredF32 {
    using Bits = float;
    static __device__ __forceinline__ float widen(float value) { return value; }
    static __device__ __forceinline__ float narrow(float value) { return value; }
};
struct StoredBf16 {
    using Bits = uint16_t;
    static constexpr bool is_bf16 = true;
    static __device__ __forceinline__ float widen(uint16_t bits) { return bf16_to_float(bits); }
    static __device__ __forceinline__ uint16_t narrow(float value) { return float_to_bf16(value); }
};
struct StoredF16 {
    using Bits = uint16_t;
    static constexpr bool is_bf16 = false;
    static __device__ __forceinline__ float widen(uint16_t bits) { return half_to_float(bits); }
    static __device__ __forceinline__ uint16_t narrow(float value) { return float_to_half(value); }
};

__host__ __device__ constexpr int64_t ceil_div(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit;
}

/// Threads of a block that goes through `n` items: whole warps, no more than there are items, nor than
/// `most`.
constexpr int threads_for(int64_t n, int most) {
    return n >= most ? most : static_cast<int>(ceil_div(n > 0 ? n : 1, warp_size)) * warp_size;
}

}  // namespace mixserve::simt
