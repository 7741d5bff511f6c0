#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/clock.h"
#include "comm/communicator.h"

namespace mixserve::app {

// What the benchmarks measure with.

/// Of an even number of values the mean of the two in the middle; 0 of none.
inline double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Collective: the seconds that `work` takes the slowest rank, where all begin together.
template <class Work>
double slowest_s(const comm::Communicator& world, const Work& work) {
    world.barrier();
    const double begin_s = now_s();
    work();
    double duration_s[] = {now_s() - begin_s};
    world.all_reduce(std::span<double>(duration_s), comm::ReduceOp::max);
    return duration_s[0];
}

}  // namespace mixserve::app
