#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

namespace mixserve::kernels::cuda {
namespace {

using namespace mixserve::simt;

constexpr int row_threads = 256;

dim3 blocks(int64_t n) {
    return dim3(static_cast<unsigned>(n));
}
/// Blocks of row_threads threads, a thread an element.
dim3 blocks_of_elements(int64_t n) {
    return blocks(ceil_div(n, row_threads));
}
__device__ __forceinline__ int64_t element_index() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// A block a row.
__global__ void rms_norm_kernel(const float* x, int64_t x_stride, int64_t width, const float* weight,
                                float epsilon, float* out, int64_t out_stride) {
    const float* row = x + blockIdx.x * x_stride;
    float* target = out + blockIdx.x * out_stride;
    float squares = 0.0F;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        squares = fmaf(row[i], row[i], squares);
    const float sum = block_sum(squares, shared_memory<float>());
    const float scale = 1.0F / sqrtf(sum / static_cast<float>(width) + epsilon);
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        target[i] = row[i] * scale * weight[i];
}

// A warp a head.
__global__ void norm_heads_kernel(float* qkv, int64_t stride, int64_t n_rows, HeadNorm norm) {
    const int64_t n_heads = norm.n_query_heads + norm.n_key_heads;
    const int64_t index = element_index() / warp_size;
    if (index >= n_rows * n_heads) return;
    const int64_t head = index % n_heads;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    float* x = qkv + index / n_heads * stride + head * norm.head_dim;
    const float* weight = head < norm.n_query_heads ? norm.query_weight : norm.key_weight;
    float squares = 0.0F;
    for (int64_t i = lane; i < norm.head_dim; i += warp_size)
        squares = fmaf(x[i], x[i], squares);
    const float scale = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(norm.head_dim) + norm.epsilon);
    for (int64_t i = lane; i < norm.head_dim; i += warp_size)
        x[i] = x[i] * scale * weight[i];
}

__global__ void sum_of_squares_kernel(const float* x, int64_t stride, int64_t width, float* sums,
                                      int64_t sums_stride) {
    const float* row = x + blockIdx.x * stride;
    float squares = 0.0F;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        squares = fmaf(row[i], row[i], squares);
    const float sum = block_sum(squares, shared_memory<float>());
    if (threadIdx.x == 0) sums[blockIdx.x * sums_stride] = sum;
}

__global__ void scale_by_sums_kernel(float* x, int64_t stride, SummedNorm norm) {
    float sum = 0.0F;
    for (int64_t r = 0; r < norm.n_parts; ++r)
        sum += norm.sums[r * norm.part_stride + blockIdx.x * norm.row_stride];
    const float scale = 1.0F / sqrtf(sum / static_cast<float>(norm.total_width) + norm.epsilon);
    float* row = x + blockIdx.x * stride;
    for (int64_t i = threadIdx.x; i < norm.width; i += blockDim.x)
        row[i] = row[i] * scale * norm.weight[i];
}

__global__ void clip_kernel(float* x, int64_t n, float bound) {
    const int64_t i = element_index();
    if (i < n) x[i] = fminf(fmaxf(x[i], -bound), bound);
}

// A thread a pair of a row's columns.
__global__ void rope_kernel(float* x, int64_t stride, int64_t n_heads, int64_t head_dim, int64_t n_rows,
                            const int32_t* positions, const float* cos, const float* sin) {
    const int64_t half = head_dim / 2;
    const int64_t index = element_index();
    if (index >= n_rows * n_heads * half) return;
    const int64_t row = index / (n_heads * half);
    const int64_t head = index / half % n_heads;
    const int64_t i = index % half;
    const int64_t angle = positions[row] * half + i;
    float* lower = x + row * stride + head * head_dim + i;
    const float a = lower[0];
    const float b = lower[half];
    lower[0] = a * cos[angle] - b * sin[angle];
    lower[half] = b * cos[angle] + a * sin[angle];
}

__global__ void silu_mul_kernel(const float* gate, const float* up, int64_t n, float* out) {
    const int64_t i = element_index();
    if (i < n) out[i] = gate[i] / (1.0F + expf(-gate[i])) * up[i];
}

__global__ void add_kernel(const float* x, int64_t n, float* y) {
    const int64_t i = element_index();
    if (i < n) y[i] += x[i];
}

__global__ void add_gated_kernel(const float* x, const float* gate, int64_t n, int64_t width, float* out) {
    const int64_t i = element_index();
    if (i < n) out[i] += 1.0F / (1.0F + expf(-gate[i / width])) * x[i];
}

template <class Stored>
__global__ void embed_kernel(const typename Stored::Bits* table, int64_t n_table_rows, int64_t width,
                             int64_t first_token, const int32_t* tokens, float* out) {
    const int64_t row = tokens[blockIdx.x] - first_token;
    const bool has = row >= 0 && row < n_table_rows;
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        out[blockIdx.x * width + i] = has ? Stored::widen(table[row * width + i]) : 0.0F;
}

__global__ void gather_rows_kernel(const float* x, int64_t width, const int32_t* rows, float* out) {
    const int64_t row = rows[blockIdx.x];
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
        out[blockIdx.x * width + i] = x[row * width + i];
}

constexpr size_t sum_bytes = row_threads / warp_size * sizeof(float);

}  // namespace

void rms_norm(const float* x, int64_t x_stride, int64_t n_rows, int64_t width, const float* weight,
              float epsilon, float* out, int64_t out_stride, device::Stream& stream) {
    launch("rms_norm", *stream.gpu(), blocks(n_rows), threads_for(width, row_threads), sum_bytes,
           rms_norm_kernel, x, x_stride, width, weight, epsilon, out, out_stride);
}

void norm_heads(float* qkv, int64_t stride, int64_t n_rows, const HeadNorm& norm, device::Stream& stream) {
    launch("norm_heads", *stream.gpu(),
           blocks_of_elements(n_rows * (norm.n_query_heads + norm.n_key_heads) * warp_size), row_threads, 0,
           norm_heads_kernel, qkv, stride, n_rows, norm);
}

void sum_of_squares(const float* x, int64_t stride, int64_t n_rows, int64_t width, float* sums,
                    int64_t sums_stride, device::Stream& stream) {
    launch("sum_of_squares", *stream.gpu(), blocks(n_rows), threads_for(width, row_threads), sum_bytes,
           sum_of_squares_kernel, x, stride, width, sums, sums_stride);
}

void scale_by_sums(float* x, int64_t stride, int64_t n_rows, const SummedNorm& norm, device::Stream& stream) {
    launch("scale_by_sums", *stream.gpu(), blocks(n_rows), threads_for(norm.width, row_threads), 0,
           scale_by_sums_kernel, x, stride, norm);
}

void clip(float* x, int64_t n, float bound, device::Stream& stream) {
    launch("clip", *stream.gpu(), blocks_of_elements(n), row_threads, 0, clip_kernel, x, n, bound);
}

void apply_rope(float* x, int64_t stride, int64_t n_heads, int64_t head_dim, int64_t n_rows,
                const int32_t* positions, const float* cos, const float* sin, device::Stream& stream) {
    launch("rope", *stream.gpu(), blocks_of_elements(n_rows * n_heads * (head_dim / 2)), row_threads, 0,
           rope_kernel, x, stride, n_heads, head_dim, n_rows, positions, cos, sin);
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out, device::Stream& stream) {
    launch("silu_mul", *stream.gpu(), blocks_of_elements(n), row_threads, 0, silu_mul_kernel, gate, up, n,
           out);
}

void add(const float* x, int64_t n, float* y, device::Stream& stream) {
    launch("add", *stream.gpu(), blocks_of_elements(n), row_threads, 0, add_kernel, x, n, y);
}

void add_gated(const float* x, const float* gate, int64_t n_rows, int64_t width, float* out,
               device::Stream& stream) {
    launch("add_gated", *stream.gpu(), blocks_of_elements(n_rows * width), row_threads, 0, add_gated_kernel,
           x, gate, n_rows * width, width, out);
}

void embed_rows(const Weight& table, int64_t first_token, const int32_t* tokens, int64_t n_rows, float* out,
                device::Stream& stream) {
    const auto run = [&](auto stored) {
        using Stored = decltype(stored);
        launch("embed_rows", *stream.gpu(), blocks(n_rows), threads_for(table.n_in, row_threads), 0,
               embed_kernel<Stored>, static_cast<const typename Stored::Bits*>(table.data), table.n_out,
               table.n_in, first_token, tokens, out);
    };
    switch (table.dtype) {
        case DType::f32:
            return run(StoredF32{});
        case DType::bf16:
            return run(StoredBf16{});
        case DType::f16:
            return run(StoredF16{});
    }
}

void gather_rows(const float* x, int64_t width, const int32_t* rows, int64_t n_rows, float* out,
                 device::Stream& stream) {
    launch("gather_rows", *stream.gpu(), blocks(n_rows), threads_for(width, row_threads), 0,
           gather_rows_kernel, x, width, rows, out);
}

}  // namespace mixserve::kernels::cuda
