#include "support/test_support.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace mixserve::test {

namespace fs = std::filesystem;

namespace {

/// Where the build was configured for, unless the environment says where it is now: tests that have been
/// carried to another machine (scripts/gpu-check) find their files so.
fs::path folder_of(const char* variable, const char* configured) {
    const char* value = std::getenv(variable);
    return value != nullptr ? value : configured;
}

}  // namespace

fs::path source_dir() {
    return folder_of("MIXSERVE_SOURCE_DIR", MIXSERVE_SOURCE_DIR);
}

bool shared_is_there() {
    return fs::exists(shared_path("goldens"));
}

bool shared_must_be_there() {
    const char* ci = std::getenv("CI");
    return ci != nullptr && std::string(ci) == "true";
}

fs::path shared_path(const std::string& relative) {
    return folder_of("MIXSERVE_SHARED_DIR", MIXSERVE_SHARED_DIR) / relative;
}

TemporaryFolder::TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "mixserve-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
        throw std::runtime_error("cannot make a temporary folder at " + pattern);
    path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

std::string read_file(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error("cannot read " + path.string());
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

void write_file(const fs::path& path, const std::string& bytes) {
    std::ofstream out(path, std::ios::binary);
    out << bytes;
    if (!out) throw std::runtime_error("cannot write " + path.string());
}

}  // namespace mixserve::test
