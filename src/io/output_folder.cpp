#include "io/output_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "base/error.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;

// What a job that died before it wrote run.json leaves does not count.
std::set<std::string> names_in(const std::string& path) {
    std::set<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
        names.insert(it->path().filename());
    require_usage(!error, "cannot read the output folder '{}': {}", path, error.message());
    names.erase(lock_file_name);
    names.erase("run.json.part");
    return names;
}

void check_contents(const std::string& path, bool resume) {
    const std::set<std::string> names = names_in(path);
    if (names.empty()) return;
    require_usage(
        resume,
        "the output folder '{}' is not empty; give a new one, so that no earlier results are mixed in or "
        "lost, or --resume to go on with the job that was there",
        path);
    require_usage(names.count("run.json") != 0,
                  "--resume: the output folder '{}' is not that of a job: it has no run.json; give a new one",
                  path);
}

}  // namespace

OutputFolder OutputFolder::open(const std::string& path, bool resume, const ordered_json& holder) {
    require_usage(!path.empty(), "the output folder has no name; give --output-dir");
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::exists(status)) {
        require_usage(fs::is_directory(status), "the output folder '{}' is a file; give another --output-dir",
                      path);
        check_contents(path, resume);
    } else {
        fs::create_directories(path, error);
        require_usage(!error, "cannot make the output folder '{}': {}", path, error.message());
    }
    const bool writable = ::access(path.c_str(), W_OK | X_OK) == 0;
    require_usage(writable, "cannot write to the output folder '{}': {}", path, errno_text(errno));
    OutputFolder folder(path, FileLock::take(path + "/" + lock_file_name, holder));
    check_contents(path, resume);  // another job may have come and gone
    return folder;
}

bool OutputFolder::has_job() const {
    return fs::exists(file("run.json"));
}

}  // namespace mixserve::io
