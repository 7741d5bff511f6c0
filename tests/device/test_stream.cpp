#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "device/buffer.h"
#include "device/stream.h"

namespace mixserve::device {
namespace {

TEST(Stream, RunsEveryTaskOnce) {
    for (const int n_threads : {1, 2, 5}) {
        Stream stream(n_threads);
        EXPECT_EQ(stream.n_threads(), n_threads);
        for (const int64_t n_tasks : {0, 1, 2, 3, 100, 1000}) {
            std::vector<std::atomic<int>> runs(static_cast<size_t>(n_tasks));
            std::atomic<bool> thread_in_range = true;
            stream.parallel_for(n_tasks, [&](int64_t task, int thread) {
                ++runs[static_cast<size_t>(task)];
                if (thread < 0 || thread >= n_threads) thread_in_range = false;
            });
            for (const auto& n : runs)
                ASSERT_EQ(n, 1);
            EXPECT_TRUE(thread_in_range);
        }
    }
}

TEST(Stream, ManySmallCallsSeeWhatTheOneBeforeWrote) {
    Stream stream(3);
    std::vector<int64_t> values(7, 0);
    for (int call = 0; call < 20000; ++call) {
        stream.parallel_for(7, [&](int64_t task, int) { values[static_cast<size_t>(task)] += task + 1; });
    }
    for (int64_t i = 0; i < 7; ++i)
        EXPECT_EQ(values[static_cast<size_t>(i)], 20000 * (i + 1));
}

TEST(Stream, WakesThreadsThatSleep) {
    Stream stream(2);
    for (int call = 0; call < 5; ++call) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::atomic<int> n_inside = 0;
        // Both tasks must be inside at once to end, so the second thread has to have come.
        stream.parallel_for(2, [&](int64_t, int) {
            ++n_inside;
            while (n_inside < 2)
                std::this_thread::yield();
        });
    }
}

TEST(Stream, ThrowsWhatATaskThrowsAndGoesOn) {
    for (const int n_threads : {1, 2, 4}) {
        Stream stream(n_threads);
        for (int call = 0; call < 50; ++call) {
            EXPECT_THROW(stream.parallel_for(40,
                                             [](int64_t task, int) {
                                                 if (task % 7 == 3) throw std::runtime_error("task");
                                             }),
                         std::runtime_error);
            std::atomic<int64_t> sum = 0;
            stream.parallel_for(10, [&](int64_t task, int) { sum += task; });
            EXPECT_EQ(sum, 45);
        }
    }
}

TEST(Stream, PollsOnTheCallingThread) {
    for (const int n_threads : {1, 2}) {
        Stream stream(n_threads);
        const auto caller = std::this_thread::get_id();
        int n_polls = 0;
        bool elsewhere = false;
        stream.set_poll([&] {
            ++n_polls;
            elsewhere = elsewhere || std::this_thread::get_id() != caller;
        });
        stream.parallel_for(64, [](int64_t, int) {});
        EXPECT_GE(n_polls, 1);
        EXPECT_FALSE(elsewhere);
        const int before = n_polls;
        stream.poll();
        EXPECT_EQ(n_polls, before + 1);
        stream.set_poll({});
        stream.poll();
        EXPECT_EQ(n_polls, before + 1);
    }
}

TEST(Stream, APollThatThrowsEndsTheCall) {
    Stream stream(2);
    stream.set_poll([] { throw std::runtime_error("poll"); });
    EXPECT_THROW(stream.parallel_for(8, [](int64_t, int) {}), std::runtime_error);
    stream.set_poll({});
    std::atomic<int> n = 0;
    stream.parallel_for(8, [&](int64_t, int) { ++n; });
    EXPECT_EQ(n, 8);
}

TEST(Stream, ScratchIsPrivateAlignedAndKept) {
    Stream stream(3);
    std::byte* a = stream.scratch(0, 1000);
    std::byte* b = stream.scratch(1, 1000);
    std::byte* shared = stream.shared_scratch(1000);
    EXPECT_NE(a, b);
    EXPECT_NE(a, shared);
    EXPECT_NE(b, shared);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
    std::memset(a, 1, 1000);
    std::memset(b, 2, 1000);
    EXPECT_EQ(stream.scratch(0, 10), a);
    EXPECT_EQ(a[999], std::byte{1});
}

TEST(Stream, MovesAndRefusesNoThreads) {
    Stream a(2);
    Stream b(std::move(a));
    std::atomic<int> n = 0;
    b.parallel_for(5, [&](int64_t, int) { ++n; });
    EXPECT_EQ(n, 5);
    EXPECT_THROW(Stream(0), Error);
}

TEST(Buffer, IsAlignedMovesAndGrows) {
    for (const size_t n : {size_t{1}, size_t{5000}, size_t{3} << 20}) {
        Buffer buffer(n);
        EXPECT_EQ(buffer.size(), n);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 4096, 0u);
        std::memset(buffer.data(), 7, n);
        const std::byte* data = buffer.data();
        Buffer other = std::move(buffer);
        EXPECT_EQ(other.data(), data);
        EXPECT_EQ(other.data()[n - 1], std::byte{7});
        other.reserve(n);
        EXPECT_EQ(other.data(), data);
        other.reserve(n + 1);
        EXPECT_EQ(other.size(), n + 1);
    }
    EXPECT_EQ(Buffer().data(), nullptr);
    EXPECT_EQ(Buffer(100).as<float>().size(), 25u);
}

TEST(Buffer, SaysHowMuchWasWanted) {
    try {
        const Buffer buffer(SIZE_MAX / 2);
        FAIL() << "got " << buffer.size() << " bytes";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find(std::to_string(SIZE_MAX / 2)), std::string::npos) << e.what();
    }
}

}  // namespace
}  // namespace mixserve::device
