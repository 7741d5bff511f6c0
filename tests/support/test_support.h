#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace mixserve::test {

/// The project's source folder.
std::filesystem::path source_dir();

/// A path under ../shared. Where the folder is missing: in CI (environment CI=true) the test fails, elsewhere
/// it is skipped with the reason; so use it as `MIXSERVE_NEEDS_SHARED(path, "goldens/olmoe");`.
bool shared_is_there();
bool shared_must_be_there();
std::filesystem::path shared_path(const std::string& relative);

/// A fresh folder that is removed with the object. Not shared between ranks.
class TemporaryFolder {
  public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }
    std::string file(const std::string& name) const { return (path_ / name).string(); }

  private:
    std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& bytes);

}  // namespace mixserve::test

#define MIXSERVE_NEEDS_SHARED(variable, relative)                                                       \
    if (!::mixserve::test::shared_is_there()) {                                                         \
        if (::mixserve::test::shared_must_be_there()) FAIL() << "../shared is missing, and this is CI"; \
        GTEST_SKIP() << "../shared is not here";                                                        \
    }                                                                                                   \
    const std::filesystem::path variable = ::mixserve::test::shared_path(relative)
