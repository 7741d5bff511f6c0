#include "io/output_folder.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file_calls.h"
#include "base/log.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;

// What a job that died before it wrote run.json leaves does not count.
std::set<std::string> names_in(const std::string& path) {
    const FileCallScope reading("reading", path);
    std::set<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
        names.insert(it->path().filename());
    require_usage(!error, "cannot read the output folder '{}': {}; give another --output-dir", path,
                  error.message());
    names.erase(lock_file_name);
    names.erase("run.json.part");
    return names;
}

/// Whether all that is there is of a start that made no row: one that failed before its first step, as a
/// rule. Its user mends the cause and starts the same command again.
bool is_without_rows(const std::string& path, const std::set<std::string>& names) {
    constexpr std::array of_a_start{"run.json", "steps.jsonl", "trace.json", "routing.jsonl"};
    constexpr std::array of_rows{rows_file_name(false), rows_file_name(true)};
    return names.contains("run.json") &&
           std::all_of(names.begin(), names.end(), [&](const std::string& name) {
               if (std::find(of_a_start.begin(), of_a_start.end(), name) != of_a_start.end()) return true;
               if (std::find(of_rows.begin(), of_rows.end(), name) == of_rows.end()) return false;
               // Opening it asks the server, where NFS would answer from its cache.
               std::ifstream rows(path + "/" + name, std::ios::ate);
               return rows && rows.tellg() == 0;
           });
}

/// Returns what an earlier start without rows has left, which may go.
std::set<std::string> check_contents(const std::string& path, bool resume) {
    std::set<std::string> names = names_in(path);
    if (names.empty()) return {};
    if (!resume && is_without_rows(path, names)) return names;
    require_usage(
        resume,
        "the output folder '{}' is not empty; give a new one, so that no earlier results are mixed in or "
        "lost, or --resume to go on with the job that was there",
        path);
    require_usage(names.contains("run.json"),
                  "--resume: the output folder '{}' is not that of a job: it has no run.json; give a new one",
                  path);
    return {};
}

/// The nearest folder above that is there.
std::string existing_parent(const std::string& path) {
    std::error_code error;
    fs::path parent = fs::absolute(path).lexically_normal().parent_path();
    while (parent.has_relative_path() && !fs::exists(parent, error))
        parent = parent.parent_path();
    return parent.string();
}

/// What to do where the folder cannot be made or written; `place` stands in the way.
std::string remedy(int code, const std::string& place) {
    switch (code) {
        case EACCES:
        case EPERM:
            return fmt::format(
                "user {} may not write in '{}': have that changed, or give another --output-dir", ::geteuid(),
                place);
        case EROFS:
            return fmt::format("'{}' is mounted read-only here: give another --output-dir", place);
        case ENOTDIR:
        case EEXIST:
            return fmt::format("'{}' is a file or below one: give another --output-dir", place);
        case ENOSPC:
        case EDQUOT:
            return fmt::format("free some space or quota in '{}', or give another --output-dir", place);
        default:
            return "give another --output-dir";
    }
}

void make_folder(const std::string& path) {
    std::error_code error;
    fs::create_directories(path, error);
    require_usage(!error, "cannot make the output folder '{}': {}; {}", path, error.message(),
                  remedy(error.value(), existing_parent(path)));
}

}  // namespace

OutputFolder OutputFolder::open(const std::string& path, bool resume, const ordered_json& holder) {
    require_usage(!path.empty(), "the output folder has no name; give --output-dir");
    {
        const FileCallScope opening("opening", path);
        std::error_code error;
        const fs::file_status status = fs::status(path, error);
        if (fs::exists(status)) {
            require_usage(fs::is_directory(status),
                          "the output folder '{}' is a file; give another --output-dir", path);
            check_contents(path, resume);
        } else {
            make_folder(path);
        }
        const int code = ::access(path.c_str(), W_OK | X_OK) == 0 ? 0 : errno;
        require_usage(code == 0, "cannot write to the output folder '{}': {}; {}", path, errno_text(code),
                      remedy(code, path));
    }
    OutputFolder folder(path, FileLock::take(path + "/" + lock_file_name, holder));
    const std::set<std::string> left = check_contents(path, resume);  // another job may have come and gone
    require_usage(
        left.empty() || folder.lock_.is_locked(),
        "the output folder '{}' has the run.json of a job without rows, which may be running, as this "
        "file system has no locks; remove the folder if not, or give another --output-dir",
        path);
    if (!left.empty()) folder.clear(left);
    return folder;
}

/// run.json goes last: a folder that is half cleared is still known as what it is.
void OutputFolder::clear(const std::set<std::string>& names) const {
    spdlog::info("removing what an earlier start without rows left in '{}'", path_);
    const FileCallScope removing("removing files in", path_);
    const auto remove = [&](const std::string& name) {
        std::error_code error;
        fs::remove(file(name), error);
        require_usage(!error, "cannot remove '{}': {}; {}", file(name), error.message(),
                      remedy(error.value(), path_));
    };
    for (const std::string& name : names) {
        if (name != "run.json") remove(name);
    }
    remove("run.json");
}

bool OutputFolder::has_job() const {
    return fs::exists(file("run.json"));
}

}  // namespace mixserve::io
