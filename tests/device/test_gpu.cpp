#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/error.h"
#include "device/stream.h"
#include "device/upload_ring.h"
#include "kernels/gpu_data.h"

namespace mixserve::device {
namespace {

using namespace mixserve::test;

std::vector<int32_t> counted(size_t n, int32_t first) {
    std::vector<int32_t> values(n);
    std::iota(values.begin(), values.end(), first);
    return values;
}

TEST(Gpu, BytesComeBackAsTheyWent) {
    MIXSERVE_NEEDS_GPU();
    const std::vector<int32_t> values = counted(100000, 7);
    const OnGpu<int32_t> a(values);
    EXPECT_EQ(a.read(), values);
    OnGpu<int32_t> b(counted(values.size(), 0));
    gpu_stream().gpu()->copy_inside(b.data(), a.data(), values.size() * sizeof(int32_t));
    EXPECT_EQ(b.read(), values);
    gpu_stream().gpu()->clear(b.data(), 40);
    std::vector<int32_t> cleared = values;
    std::fill_n(cleared.begin(), 10, 0);
    EXPECT_EQ(b.read(), cleared);
    EXPECT_TRUE(gpu_stream().gpu()->is_idle());
}

TEST(Gpu, UploadsMayBeChangedAtOnce) {
    MIXSERVE_NEEDS_GPU();
    // More than the ring has pieces, and growing ones.
    std::vector<OnGpu<int32_t>> targets;
    std::vector<std::vector<int32_t>> wanted;
    UploadRing ring(2);
    for (int32_t i = 0; i < 9; ++i) {
        std::vector<int32_t> values = counted(size_t{1000} + size_t{500} * static_cast<size_t>(i), 100 * i);
        targets.emplace_back(std::vector<int32_t>(values.size()));
        wanted.push_back(values);
        ring.upload(targets.back().data(), values.data(), values.size() * sizeof(int32_t),
                    *gpu_stream().gpu());
        std::fill(values.begin(), values.end(), -1);
    }
    for (size_t i = 0; i < targets.size(); ++i)
        EXPECT_EQ(targets[i].read(), wanted[i]) << i;
}

TEST(Gpu, PiecesAreFilledWhileTheOneBeforeIsCopied) {
    MIXSERVE_NEEDS_GPU();
    UploadRing ring(3);
    OnGpu<int32_t> target(counted(6 * 256, 0));
    for (int32_t piece = 0; piece < 6; ++piece) {
        auto* values = reinterpret_cast<int32_t*>(ring.begin(256 * sizeof(int32_t)));
        std::iota(values, values + 256, 5000 + 256 * piece);
        ring.send(target.data() + 256 * piece, 256 * sizeof(int32_t), *gpu_stream().gpu());
    }
    EXPECT_EQ(target.read(), counted(6 * 256, 5000));
}

TEST(Gpu, AnEventHoldsBackAnotherQueue) {
    MIXSERVE_NEEDS_GPU();
    GpuQueue first;
    GpuQueue second;
    const std::vector<int32_t> values = counted(1 << 20, 3);
    OnGpu<int32_t> a(counted(values.size(), 0));
    OnGpu<int32_t> b(counted(values.size(), 0));
    gpu_stream().gpu()->synchronize();
    first.copy_in(a.data(), values.data(), values.size() * sizeof(int32_t));
    GpuEvent copied;
    copied.record(first);
    copied.hold_back(second);
    second.copy_inside(b.data(), a.data(), values.size() * sizeof(int32_t));
    second.synchronize();
    EXPECT_EQ(b.read(), values);
}

TEST(Gpu, AGraphRunsWhenItIsReplayed) {
    MIXSERVE_NEEDS_GPU();
    GpuQueue& queue = *gpu_stream().gpu();
    const std::vector<int32_t> old = counted(1000, 0);
    const std::vector<int32_t> values = counted(1000, 50);
    OnGpu<int32_t> a(values);
    OnGpu<int32_t> b(old);
    OnGpu<int32_t> c(old);
    const size_t n_bytes = values.size() * sizeof(int32_t);
    queue.begin_capture();
    queue.copy_inside(b.data(), a.data(), n_bytes);
    queue.copy_inside(c.data(), b.data(), n_bytes);
    queue.clear(a.data(), 4);
    GpuGraph graph = queue.end_capture();
    EXPECT_EQ(c.read(), old);
    queue.replay(graph);
    EXPECT_EQ(c.read(), values);
    queue.replay(graph);  // with what the first has left
    std::vector<int32_t> cleared = values;
    cleared[0] = 0;
    EXPECT_EQ(c.read(), cleared);
}

TEST(Gpu, AGraphIsAbandonedAfterAnError) {
    MIXSERVE_NEEDS_GPU();
    GpuQueue queue;
    OnGpu<int32_t> a(counted(10, 0));
    gpu_stream().gpu()->synchronize();
    queue.begin_capture();
    queue.clear(a.data(), 40);
    EXPECT_THROW(queue.synchronize(), Error);
    queue.abandon_capture();
    queue.synchronize();
    EXPECT_EQ(a.read(), counted(10, 0));
}

TEST(Gpu, MemoryThatComesAndGoesIsCounted) {
    MIXSERVE_NEEDS_GPU();
    gpu_stream();
    const uint64_t before = gpu_memory_changes();
    Buffer buffer(100, Memory::device);
    const uint64_t with = gpu_memory_changes();
    EXPECT_GT(with, before);
    buffer.reserve(50, Memory::device);
    EXPECT_EQ(gpu_memory_changes(), with);
    buffer.reserve(200, Memory::device);
    EXPECT_GT(gpu_memory_changes(), with);
}

TEST(Gpu, ScratchKeepsItsPlaceUntilItGrows) {
    MIXSERVE_NEEDS_GPU();
    Stream& stream = gpu_stream();
    std::byte* small = stream.device_scratch(ScratchSlot::staging_out, 1000);
    EXPECT_EQ(stream.device_scratch(ScratchSlot::staging_out, 10), small);
    EXPECT_NE(stream.device_scratch(ScratchSlot::library, 1000), small);
    const int64_t before = gpu_high_water_bytes();
    stream.device_scratch(ScratchSlot::staging_out, size_t{64} << 20);
    EXPECT_GE(gpu_high_water_bytes(), before);
    EXPECT_GE(gpu_high_water_bytes(), int64_t{64} << 20);
    EXPECT_EQ(stream.memory(), Memory::device);
    EXPECT_EQ(Stream(1).memory(), Memory::host);
}

TEST(Gpu, TheOneInUseIsDescribed) {
    MIXSERVE_NEEDS_GPU();
    gpu_stream();
    const GpuProperties& gpu = gpu_in_use();
    EXPECT_FALSE(gpu.name.empty());
    EXPECT_GE(gpu.compute_capability, 80);
    EXPECT_GT(gpu.n_multiprocessors, 0);
    EXPECT_GT(gpu_memory().free_bytes, 0);
    EXPECT_LE(gpu_memory().free_bytes, gpu_memory().total_bytes);
}

TEST(Gpu, ASurveySaysWhyThereIsNone) {
    const GpuSurvey survey = survey_gpus();
    EXPECT_NE(survey.gpus.empty(), survey.why_none.empty());
}

}  // namespace
}  // namespace mixserve::device
