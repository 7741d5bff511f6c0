#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/clock.h"
#include "base/file_calls.h"
#include "base/heartbeat.h"
#include "base/launcher.h"
#include "base/phase.h"
#include "base/watchdog.h"

namespace mixserve {
namespace {

void pause_s(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

TEST(Watchdog, EndsAProcessThatDoesNotGetOn) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [](const char* call) {
        const Watchdog watchdog(0.5, 3, 8, "node7");
        PhaseTimer timer;
        heartbeat.at_step(17);
        timer.set_layer(5);
        const PhaseScope combine(timer, Phase::combine);
        const PhaseScope idle(timer, Phase::idle);
        const WaitScope waiting(call);
        pause_s(60);
        _exit(99);
    };
    EXPECT_EXIT(run("MPI_Allreduce"), testing::ExitedWithCode(1),
                "watchdog: rank 3 of 8 on host node7 has not got on for 0.5 s: step 17, layer 5, waiting in "
                "MPI_Allreduce in combine");
    EXPECT_EXIT(run(nullptr), testing::ExitedWithCode(1), "step 17, layer 5, computing in combine");
}

TEST(Watchdog, EndsAProcessInACallToAFileSystemThatDoesNotReturn) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [](bool main_gets_on) {
        const Watchdog watchdog(0.5, 0, 1, "node7");
        std::thread reader([] {
            for (int i = 0; i < 100; ++i)
                const FileCallScope fast("reading", "/data/other.jsonl");
            const FileCallScope stuck("reading", "/data/prompts.jsonl");
            pause_s(60);
        });
        heartbeat.at_step(17);
        for (const double end = now_s() + 60; now_s() < end; pause_s(0.01)) {
            if (main_gets_on) heartbeat.beat();
        }
        _exit(99);
    };
    for (const bool main_gets_on : {true, false}) {
        EXPECT_EXIT(
            run(main_gets_on), testing::ExitedWithCode(1),
            "rank 0 of 1 on host node7 has not got on for 0.5 s: step 17, reading '/data/prompts.jsonl'"
            "(.|\n)*A file system does not answer");
    }
}

TEST(Watchdog, LeavesFileCallsThatReturn) {
    const Watchdog watchdog(1.0, 0, 1, "node");
    for (const double end = now_s() + 3; now_s() < end; pause_s(0.01)) {
        const FileCallScope outer("opening", "/data/out");
        const FileCallScope inner("reading", "/data/prompts.jsonl");
        heartbeat.beat();
    }
}

TEST(Watchdog, LeavesAProcessThatGetsOn) {
    const Watchdog watchdog(1.0, 0, 1, "node");
    const double end = now_s() + 3;
    while (now_s() < end) {
        heartbeat.beat();
        pause_s(0.01);
    }
}

TEST(Watchdog, TimeoutZeroNeverEnds) {
    const Watchdog watchdog(0, 0, 1, "node");
    pause_s(0.5);
}

TEST(Watchdog, TimeForWhichTheProcessWasStoppedDoesNotCount) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto run = [] {
        const Watchdog watchdog(2, 0, 1, "node");
        const pid_t self = getpid();
        if (fork() == 0) {
            pause_s(4);
            kill(self, SIGCONT);
            _exit(0);
        }
        raise(SIGSTOP);
        pause_s(0.5);
        _exit(99);
    };
    EXPECT_EXIT(run(), testing::ExitedWithCode(99), "");
}

/// How a process of this name ends whose child calls kill_launcher_that_stays(1), and which otherwise ends by
/// itself after `life_s`.
int end_of_launcher(const char* name, int life_s) {
    const pid_t launcher = fork();
    if (launcher == 0) {
        prctl(PR_SET_NAME, name);
        if (fork() == 0) {
            kill_launcher_that_stays(1);
            _exit(0);
        }
        pause_s(life_s);
        _exit(7);
    }
    int status = 0;
    waitpid(launcher, &status, 0);
    return status;
}

TEST(Launcher, IsKilledWhenItStays) {
    const int status = end_of_launcher("orted", 120);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST(Launcher, OtherProgramsAreLeftAlone) {
    const int status = end_of_launcher("slurmstepd", 3);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(Heartbeat, WaitScopesNest) {
    EXPECT_EQ(heartbeat.call(), nullptr);
    const uint64_t before = heartbeat.n_beats();
    {
        const WaitScope outer("outer");
        {
            const WaitScope computing(nullptr);
            EXPECT_EQ(heartbeat.call(), nullptr);
        }
        EXPECT_STREQ(heartbeat.call(), "outer");
    }
    EXPECT_EQ(heartbeat.call(), nullptr);
    EXPECT_GT(heartbeat.n_beats(), before);
}

}  // namespace
}  // namespace mixserve
