#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "base/stop.h"

namespace mixserve {
namespace {

// Each in a process of its own, which the death test makes: a signal is noted once in a process' life.

void pause_ms(int ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

[[noreturn]] void exit_as_asked() {
    try {
        throw_if_stopped();
    } catch (const StopRequest& e) {
        std::fprintf(stderr, "%s\n", e.what());
        _exit(e.exit_code());
    }
    _exit(99);
}

TEST(Stop, FirstSignalIsNoted) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [](int number) {
        catch_stop_signals();
        if (stop_signal() != 0) _exit(98);
        std::raise(number);
        exit_as_asked();
    };
    EXPECT_EXIT(run(SIGTERM), testing::ExitedWithCode(exit_stopped), "stopped by SIGTERM");
    EXPECT_EXIT(run(SIGUSR1), testing::ExitedWithCode(exit_stopped), "stopped by SIGUSR1");
    EXPECT_EXIT(run(SIGINT), testing::ExitedWithCode(130), "stopped by SIGINT");
}

TEST(Stop, SecondSignalEndsTheProcess) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [](int ms_between) {
        catch_stop_signals();
        std::raise(SIGUSR1);
        pause_ms(ms_between);
        std::raise(SIGTERM);
        exit_as_asked();
    };
    EXPECT_EXIT(run(700), testing::ExitedWithCode(128 + SIGTERM), "");
    // The first counts when the same request comes again at once.
    EXPECT_EXIT(run(0), testing::ExitedWithCode(exit_stopped), "SIGUSR1");
}

TEST(Stop, LimitEndsAProcessThatDoesNotLook) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [](bool takes_limit_away) {
        catch_stop_signals();
        limit_stop(1);
        std::raise(SIGTERM);
        if (takes_limit_away) limit_stop(0);
        pause_ms(2500);
        _exit(99);
    };
    EXPECT_EXIT(run(false), testing::ExitedWithCode(exit_stopped),
                "stopped by a signal before the first step");
    EXPECT_EXIT(run(true), testing::ExitedWithCode(99), "");
}

TEST(Stop, LimitThatComesAfterTheSignalCounts) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            catch_stop_signals();
            std::raise(SIGINT);
            limit_stop(1);
            pause_ms(5000);
            _exit(99);
        },
        testing::ExitedWithCode(130), "stopped by a signal");
}

}  // namespace
}  // namespace mixserve
