#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "base/error.h"
#include "io/row_writer.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::HasSubstr;

template <class F>
std::string message_of(F&& f, ExitCode code) {
    try {
        f();
    } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), code);
        return error.what();
    }
    return "no error";
}

TEST(RowWriter, RowsAreThereAtOnce) {
    const test::TemporaryFolder folder;
    RowWriter writer = RowWriter::create(folder.file("r.jsonl"));
    writer.write("{\"a\":1}");
    EXPECT_EQ(test::read_file(folder.file("r.jsonl")), "{\"a\":1}\n");
    RowWriter moved = std::move(writer);
    moved.write_lines("x\ny\n");
    moved.write("");
    moved.sync();
    EXPECT_EQ(test::read_file(folder.file("r.jsonl")), "{\"a\":1}\nx\ny\n\n");
    EXPECT_EQ(moved.n_bytes(), 13);
    EXPECT_THAT(message_of([&] { RowWriter::create(folder.file("r.jsonl")); }, exit_usage),
                HasSubstr("File exists"));
    EXPECT_THAT(message_of([&] { RowWriter::create(folder.file("no/r.jsonl")); }, exit_usage),
                HasSubstr("No such file"));
}

// Writes rows until the writer fails; what is left must be exactly the rows that were taken.
void expect_whole_rows(const std::string& path, const char* cause) {
    RowWriter writer = RowWriter::create(path);
    const std::string row(300, 'r');
    int64_t n_written = 0;
    const std::string message = message_of(
        [&] {
            for (; n_written < 100'000; ++n_written)
                writer.write(row);
        },
        exit_failure);
    EXPECT_THAT(message, HasSubstr(path));
    EXPECT_THAT(message, HasSubstr(cause));
    EXPECT_THAT(message, HasSubstr("are whole"));
    EXPECT_GT(n_written, 0);
    const std::string text = test::read_file(path);
    EXPECT_EQ(text.size(), static_cast<size_t>(n_written) * 301);
    EXPECT_EQ(writer.n_bytes(), static_cast<int64_t>(text.size()));
    EXPECT_TRUE(text.ends_with("r\n"));
}

TEST(RowWriter, FileSizeLimit) {
    const test::TemporaryFolder folder;
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit limit{10'000, before.rlim_max};
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_whole_rows(folder.file("r.jsonl"), "File too large; raise the limit");
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
}

TEST(RowWriter, FullDisk) {
    const test::TemporaryFolder folder;
    const std::string mount_point = folder.file("small");
    std::filesystem::create_directory(mount_point);
    if (::mount("none", mount_point.c_str(), "tmpfs", 0, "size=64k") != 0)
        GTEST_SKIP() << "a small file system cannot be mounted here: " << errno_text(errno);
    expect_whole_rows(mount_point + "/r.jsonl", "No space left on device; free some space");
    EXPECT_THAT(
        message_of([&] { write_file_atomically(mount_point + "/run.json", std::string(100'000, 'x')); },
                   exit_failure),
        HasSubstr("No space left"));
    EXPECT_FALSE(std::filesystem::exists(mount_point + "/run.json.part"));
    ::umount(mount_point.c_str());
}

TEST(RowWriter, AtomicFiles) {
    const test::TemporaryFolder folder;
    write_file_atomically(folder.file("run.json"), "old");
    write_file_atomically(folder.file("run.json"), "new\n");
    EXPECT_EQ(test::read_file(folder.file("run.json")), "new\n");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
    EXPECT_THAT(message_of([&] { write_file_atomically(folder.file("no/run.json"), "x"); }, exit_failure),
                HasSubstr("No such file"));
}

TEST(RowWriter, NoticesWhatOthersDoToItsFile) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("r.jsonl");
    const RowWriter writer = RowWriter::append(path, 0);
    writer.check_in_place();
    test::write_file(path, "x");
    EXPECT_THAT(message_of([&] { writer.check_in_place(); }, exit_failure), HasSubstr("another program"));
    std::filesystem::rename(path, folder.file("moved"));
    EXPECT_THAT(message_of([&] { writer.check_in_place(); }, exit_failure), HasSubstr("removed or moved"));
    test::write_file(path, "");
    EXPECT_THAT(message_of([&] { writer.check_in_place(); }, exit_failure), HasSubstr("removed or moved"));
}

}  // namespace
}  // namespace mixserve::io
