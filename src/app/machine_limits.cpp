#include "app/machine_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "app/timing.h"
#include "base/dtype.h"
#include "base/partition.h"
#include "device/buffer.h"
#include "device/gpu.h"
#include "kernels/cuda/library_product.h"

#ifdef MIXSERVE_WITH_DNNL
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace mixserve::app {
namespace {

constexpr int n_passes = 9;

uint64_t sum_words(const uint64_t* words, int64_t n) {
    std::array<uint64_t, 8> sums{};
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        for (size_t lane = 0; lane < 8; ++lane)
            sums[lane] += words[i + static_cast<int64_t>(lane)];
    }
    uint64_t sum = 0;
    for (const uint64_t s : sums)
        sum += s;
    return sum;
}

/// The shortest time of `work` on all ranks at once.
template <class Work>
double best_of_all(const comm::Communicator& world, const Work& work) {
    double best_s = 1e30;
    for (int pass = 0; pass < n_passes; ++pass) {
        best_s = std::min(best_s, slowest_s(world, work));
    }
    return best_s;
}

double measure_read(device::Stream& stream, const comm::Communicator& world) {
    constexpr int64_t n_bytes = int64_t{512} << 20;
    constexpr int64_t task_bytes = 1 << 20;
    constexpr int64_t n_tasks = n_bytes / task_bytes;
    device::Buffer memory(static_cast<size_t>(n_bytes));
    std::memset(memory.data(), 1, memory.size());
    const uint64_t* words = memory.as<uint64_t>().data();
    std::atomic<uint64_t> sink = 0;
    const double best_s = best_of_all(world, [&] {
        stream.parallel_for(stream.n_threads(), [&](int64_t part, int) {
            const Range tasks = partition(n_tasks, stream.n_threads(), part);
            constexpr int64_t task_words = task_bytes / 8;
            sink += sum_words(words + tasks.begin * task_words, tasks.size() * task_words);
        });
    });
    return sink != 0 ? world.size() * static_cast<double>(n_bytes) / best_s : 0.0;
}

#ifdef MIXSERVE_WITH_DNNL
std::optional<double> measure_matmul(int n_threads, const comm::Communicator& world) {
    using dnnl::memory;
    constexpr memory::dim n = 2048;
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(n_threads);
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    dnnl::stream stream(engine);
    const memory::desc desc({n, n}, memory::data_type::f32, memory::format_tag::ab);
    memory a(desc, engine);
    memory b(desc, engine);
    memory c(desc, engine);
    for (const memory& m : {a, b}) {
        auto* values = static_cast<float*>(m.get_data_handle());
        for (int64_t i = 0; i < n * n; ++i)
            values[i] = static_cast<float>(i % 17) - 8.0f;
    }
    const dnnl::matmul product(dnnl::matmul::primitive_desc(dnnl::matmul::desc(desc, desc, desc), engine));
    const double best_s = best_of_all(world, [&] {
        product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
        stream.wait();
    });
    omp_set_num_threads(threads_before);
    return world.size() * 2.0 * static_cast<double>(n * n * n) / best_s;
}
#else
std::optional<double> measure_matmul(int, const comm::Communicator&) {
    return std::nullopt;
}
#endif

/// The best of n_passes on this rank, by the GPU's clock.
template <class Work>
double best_on_gpu(device::Stream& stream, const Work& work) {
    work();  // warms up
    double best_s = 1e30;
    for (int pass = 0; pass < n_passes; ++pass) {
        device::GpuEvent begin;
        device::GpuEvent end;
        begin.record(*stream.gpu());
        work();
        end.record(*stream.gpu());
        end.wait();
        best_s = std::min(best_s, end.seconds_since(begin));
    }
    return best_s;
}

MachineLimits measure_gpu_limits(device::Stream& stream) {
    MachineLimits limits;
    {
        constexpr size_t n_bytes = size_t{4} << 30;
        device::Buffer from(n_bytes, device::Memory::device);
        device::Buffer to(n_bytes, device::Memory::device);
        const double s =
            best_on_gpu(stream, [&] { stream.gpu()->copy_inside(to.data(), from.data(), n_bytes); });
        limits.read_bytes_per_s = 2.0 * static_cast<double>(n_bytes) / s;
    }
    const char* why = nullptr;
    if (!kernels::cuda::has_library_products(&why)) {
        limits.matmul_name = why;
        return limits;
    }
    constexpr int64_t n = 8192;
    std::vector<uint16_t> values(static_cast<size_t>(n * n));
    uint32_t state = 1;
    for (uint16_t& v : values) {
        state = state * 1664525U + 1013904223U;
        v = f32_to_bf16(static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31F);
    }
    const size_t n_bytes = values.size() * sizeof(uint16_t);
    device::Buffer a(n_bytes, device::Memory::device);
    device::Buffer b(n_bytes, device::Memory::device);
    device::Buffer c(2 * n_bytes, device::Memory::device);
    stream.gpu()->copy_in(a.data(), values.data(), n_bytes);
    stream.gpu()->copy_in(b.data(), values.data(), n_bytes);
    const kernels::Weight weight{b.data(), DType::bf16, kernels::WeightLayout::out_in, n, n};
    const double s = best_on_gpu(stream, [&] {
        kernels::cuda::library_product(a.data(), n, weight, c.as<float>().data(), n, stream);
    });
    limits.matmul_flops = 2.0 * static_cast<double>(n * n * n) / s;
    limits.matmul_name = "bf16 products (cuBLASLt)";
    return limits;
}

}  // namespace

std::string products_text(const MachineLimits& limits) {
    if (!limits.matmul_flops) return fmt::format("no limit of arithmetic: {}", limits.matmul_name);
    return fmt::format("{} {:.0f} GFLOP/s", limits.matmul_name, *limits.matmul_flops * 1e-9);
}

MachineLimits measure_limits(device::Stream& stream, const comm::Communicator& world) {
    if (stream.gpu() == nullptr) {
        MachineLimits limits{measure_read(stream, world), measure_matmul(stream.n_threads(), world),
                             "f32 products (oneDNN)"};
        if (!limits.matmul_flops) limits.matmul_name = "built without oneDNN";
        return limits;
    }
    world.barrier();
    MachineLimits limits = measure_gpu_limits(stream);
    double sums[] = {limits.read_bytes_per_s, limits.matmul_flops.value_or(0)};
    world.all_reduce(std::span<double>(sums), comm::ReduceOp::sum);
    limits.read_bytes_per_s = sums[0];
    if (limits.matmul_flops) limits.matmul_flops = sums[1];
    return limits;
}

}  // namespace mixserve::app
