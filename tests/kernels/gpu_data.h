#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "device/buffer.h"
#include "device/gpu.h"
#include "device/stream.h"

namespace mixserve::test {

/// A stream on the GPU at hand; made once, since a process has one GPU. Ranks take the GPUs in turn.
inline device::Stream& gpu_stream() {
    static device::Stream stream = [] {
        const auto n_gpus = static_cast<int>(device::survey_gpus().gpus.size());
        const int rank = comm::Runtime::initialized() ? comm::Communicator::world().rank() : 0;
        device::use_gpu(rank % n_gpus);
        return device::Stream(1, device::GpuQueue());
    }();
    return stream;
}

/// Values on the GPU.
template <class T>
class OnGpu {
  public:
    explicit OnGpu(std::span<const T> values)
        : n_(values.size()), memory_(values.size_bytes(), device::Memory::device) {
        gpu_stream().gpu()->copy_in(memory_.data(), values.data(), values.size_bytes());
    }
    explicit OnGpu(const std::vector<T>& values) : OnGpu(std::span<const T>(values)) {}

    T* data() { return reinterpret_cast<T*>(memory_.data()); }
    const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }
    std::span<const T> span() const { return {data(), n_}; }
    std::vector<T> read() const {
        std::vector<T> values(n_);
        gpu_stream().gpu()->copy_out(values.data(), memory_.data(), n_ * sizeof(T));
        gpu_stream().gpu()->synchronize();
        return values;
    }

  private:
    size_t n_;
    device::Buffer memory_;
};

/// `n` values that say so if nobody writes them.
inline OnGpu<float> unwritten(size_t n) {
    return OnGpu<float>(std::vector<float>(n, NAN));
}

/// |actual - expected| / |expected| in the 2-norm; infinite where a value is not finite.
inline double norm_distance(std::span<const float> actual, std::span<const float> expected) {
    if (actual.size() != expected.size()) return INFINITY;
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < actual.size(); ++i) {
        const double d = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
        if (!std::isfinite(d)) return INFINITY;
        difference += d * d;
        norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
    }
    return norm == 0 ? (difference == 0 ? 0.0 : INFINITY) : std::sqrt(difference / norm);
}

}  // namespace mixserve::test

/// Skips the test, with the reason, where there is no GPU to run it on.
#define MIXSERVE_NEEDS_GPU()                                                        \
    if (const auto survey = ::mixserve::device::survey_gpus(); survey.gpus.empty()) \
    GTEST_SKIP() << "no GPU: " << survey.why_none
