#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "io/output_folder.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const std::string& path, bool resume = false, const ordered_json& holder = {}) {
    try {
        OutputFolder::open(path, resume, holder);
    } catch (const UsageError& error) {
        return error.what();
    }
    return "no error";
}

/// A process that holds the folder until it is killed.
class Holder {
  public:
    Holder(const std::string& path, const ordered_json& holder) {
        int pipe_ends[2];
        EXPECT_EQ(::pipe(pipe_ends), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            [[maybe_unused]] const OutputFolder folder = OutputFolder::open(path, false, holder);
            if (::write(pipe_ends[1], "x", 1) == 1) {
                while (true)
                    ::pause();
            }
            ::_exit(1);
        }
        char byte = 0;
        EXPECT_EQ(::read(pipe_ends[0], &byte, 1), 1);
        ::close(pipe_ends[0]);
        ::close(pipe_ends[1]);
    }
    ~Holder() { die(); }
    void die() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

  private:
    pid_t pid_ = 0;
};

TEST(OutputFolder, MustBeNewOrEmpty) {
    const test::TemporaryFolder folder;
    EXPECT_EQ(refusal(folder.file("a/b/c")), "no error");
    EXPECT_EQ(refusal(folder.file("a/b/c")), "no error");  // but for the lock of a job that died early
    EXPECT_EQ(refusal(folder.file("a/b/c"), true), "no error");
    EXPECT_TRUE(std::filesystem::is_directory(folder.file("a/b/c")));
    EXPECT_THAT(refusal(folder.file("a")), HasSubstr("is not empty"));
    EXPECT_THAT(refusal(folder.file("a"), true), HasSubstr("has no run.json"));
    EXPECT_FALSE(std::filesystem::exists(folder.file("a/job.lock")));
    test::write_file(folder.file("f"), "x");
    EXPECT_THAT(refusal(folder.file("f")), HasSubstr("is a file"));
    EXPECT_THAT(refusal(folder.file("f/g")),
                AllOf(HasSubstr("cannot make"), HasSubstr("is a file or below one")));
    EXPECT_THAT(refusal(""), HasSubstr("--output-dir"));
    test::write_file(folder.file("a/b/c/run.json"), "{}");
    test::write_file(folder.file("a/b/c/generations.jsonl"), "{}\n");
    EXPECT_THAT(refusal(folder.file("a/b/c")), AllOf(HasSubstr("is not empty"), HasSubstr("--resume")));
    EXPECT_EQ(refusal(folder.file("a/b/c"), true), "no error");
    EXPECT_TRUE(OutputFolder::open(folder.file("a/b/c"), true, {}).has_job());
    if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
    std::filesystem::create_directory(folder.file("ro"));
    ::chmod(folder.file("ro").c_str(), 0555);
    EXPECT_THAT(refusal(folder.file("ro")), AllOf(HasSubstr("cannot write"), HasSubstr("may not write in")));
}

TEST(OutputFolder, WhatAStartWithoutRowsLeftIsInNobodysWay) {
    const test::TemporaryFolder folder;
    const auto make = [&](const std::vector<std::string>& names) {
        std::filesystem::remove_all(folder.file("d"));
        std::filesystem::create_directory(folder.file("d"));
        for (const std::string& name : names)
            test::write_file(folder.file("d/" + name),
                             name.ends_with(".jsonl") && name != "steps.jsonl" ? "" : "{}");
    };
    make({"run.json", "steps.jsonl", "generations.jsonl", "trace.json", "job.lock"});
    EXPECT_TRUE(OutputFolder::open(folder.file("d"), true, {}).has_job());
    EXPECT_FALSE(OutputFolder::open(folder.file("d"), false, {}).has_job());
    EXPECT_FALSE(std::filesystem::exists(folder.file("d/steps.jsonl")));
    make({"run.json", "scores.jsonl"});
    EXPECT_EQ(refusal(folder.file("d")), "no error");
    // Not a start's, or not without rows.
    make({"run.json", "notes.txt"});
    EXPECT_THAT(refusal(folder.file("d")), HasSubstr("is not empty"));
    make({"generations.jsonl"});
    EXPECT_THAT(refusal(folder.file("d")), HasSubstr("is not empty"));
    make({"run.json", "generations.jsonl"});
    test::write_file(folder.file("d/generations.jsonl"), "{");
    EXPECT_THAT(refusal(folder.file("d")), HasSubstr("is not empty"));
    EXPECT_TRUE(std::filesystem::exists(folder.file("d/run.json")));
}

TEST(OutputFolder, BelongsToOneProcess) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("d");
    Holder holder(path, {{"host", "node7"}, {"pid", 4711}, {"slurm_job_id", "99"}});
    EXPECT_THAT(refusal(path, true),
                AllOf(HasSubstr("process 4711"), HasSubstr("host node7"), HasSubstr("Slurm job 99")));
    EXPECT_THAT(refusal(path), HasSubstr("process 4711"));
    holder.die();
    EXPECT_EQ(refusal(path), "no error");
}

// A requeued job may meet the lock of its own earlier start, whose node a server still takes for alive.
TEST(OutputFolder, WaitsForItsEarlierStart) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("d");
    Holder holder(path, {{"pid", 1}, {"slurm_job_id", "99"}, {"slurm_restart_count", "1"}});
    const std::string lock = path + "/" + lock_file_name;
    const ordered_json own{{"slurm_job_id", "99"}, {"slurm_restart_count", "2"}};
    EXPECT_THROW(FileLock::take(lock, own, 0.1), UsageError);
    const pid_t helper = ::fork();
    if (helper == 0) {
        ::usleep(300'000);
        ::_exit(0);
    }
    ::waitpid(helper, nullptr, 0);
    holder.die();
    EXPECT_NO_THROW(FileLock::take(lock, own, 60));
    Holder other(path, {{"pid", 1}, {"slurm_job_id", "99"}, {"slurm_restart_count", "2"}});
    EXPECT_THROW(FileLock::take(lock, own, 1e9), UsageError);  // two steps of one start: no waiting
}

TEST(FileLock, LookersShareAndLeaveNoTrace) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("d");
    FileLock::look(path + "/" + lock_file_name);
    EXPECT_FALSE(std::filesystem::exists(path));
    Holder holder(path, {{"pid", 4711}});
    EXPECT_THROW(FileLock::look(path + "/" + lock_file_name), UsageError);
    holder.die();
    const FileLock one = FileLock::look(path + "/" + lock_file_name);
    EXPECT_NO_THROW(FileLock::look(path + "/" + lock_file_name));
}

}  // namespace
}  // namespace mixserve::io
