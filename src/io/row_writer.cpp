#include "io/row_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "io/raw_file.h"

namespace mixserve::io {
namespace {

// What to do about a failed write.
std::string_view remedy(int code) {
    switch (code) {
        case ENOSPC:
            return "free some space there, or write to another disk";
        case EDQUOT:
            return "free some of your quota, or write elsewhere";
        case EFBIG:
            return "raise the limit of file sizes (ulimit -f), or split the input";
        case EROFS:
        case EACCES:
            return "make it writable, or write elsewhere";
        default:
            return "check the disk, or write elsewhere";
    }
}

// Writes all of it, or returns the system's reason.
int write_all(int descriptor, std::string_view data) {
    while (!data.empty()) {
        const ssize_t n = ::write(descriptor, data.data(), data.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return EIO;
        data.remove_prefix(static_cast<size_t>(n));
    }
    return 0;
}

}  // namespace

void prepare_output_dir(const std::string& path) {
    namespace fs = std::filesystem;
    require_usage(!path.empty(), "the output folder has no name; give --output-dir");
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::exists(status)) {
        require_usage(fs::is_directory(status), "the output folder '{}' is a file; give another --output-dir",
                      path);
        const bool empty = fs::is_empty(path, error);
        require_usage(!error, "cannot read the output folder '{}': {}", path, error.message());
        require_usage(
            empty,
            "the output folder '{}' is not empty; give a new one, so that no earlier results are mixed in or "
            "lost",
            path);
    } else {
        fs::create_directories(path, error);
        require_usage(!error, "cannot make the output folder '{}': {}", path, error.message());
    }
    const bool writable = ::access(path.c_str(), W_OK | X_OK) == 0;
    require_usage(writable, "cannot write to the output folder '{}': {}", path, errno_text(errno));
}

void write_file_atomically(const std::string& path, std::string_view text) {
    const std::string temporary = path + ".part";
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    require(descriptor >= 0, "cannot write '{}': {}; {}", temporary, errno_text(errno), remedy(errno));
    int code = write_all(descriptor, text);
    if (code == 0 && ::fsync(descriptor) != 0) code = errno;
    if (::close(descriptor) != 0 && code == 0) code = errno;
    if (code == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) code = errno;
    if (code == 0) return;
    ::unlink(temporary.c_str());
    fail("cannot write '{}': {}; {}", path, errno_text(code), remedy(code));
}

RowWriter::RowWriter(std::string path, int descriptor, double sync_every_s)
    : path_(std::move(path)), descriptor_(descriptor), sync_every_s_(sync_every_s), synced_s_(now_s()) {}

RowWriter RowWriter::create(const std::string& path, double sync_every_s) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    require_usage(descriptor >= 0, "cannot make '{}': {}; {}", path, errno_text(errno),
                  errno == EEXIST ? "give a new output folder" : remedy(errno));
    return {path, descriptor, sync_every_s};
}

RowWriter::~RowWriter() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

RowWriter::RowWriter(RowWriter&& other) noexcept {
    *this = std::move(other);
}

RowWriter& RowWriter::operator=(RowWriter&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(n_bytes_, other.n_bytes_);
    std::swap(sync_every_s_, other.sync_every_s_);
    std::swap(synced_s_, other.synced_s_);
    std::swap(line_, other.line_);
    return *this;
}

void RowWriter::write(std::string_view row) {
    MIXSERVE_ASSERT(row.find('\n') == std::string_view::npos);
    line_.assign(row).push_back('\n');
    write_lines(line_);
}

void RowWriter::write_lines(std::string_view lines) {
    if (const int code = write_all(descriptor_, lines); code != 0) give_up(code);
    n_bytes_ += static_cast<int64_t>(lines.size());
    if (sync_every_s_ > 0 && now_s() - synced_s_ >= sync_every_s_) sync();
}

void RowWriter::sync() {
    while (::fdatasync(descriptor_) != 0) {
        // EINVAL: what is written to (a pipe, a device) has no disk behind it.
        if (errno == EINVAL) break;
        if (errno != EINTR) give_up(errno);
    }
    synced_s_ = now_s();
}

void RowWriter::give_up(int code) {
    const bool cut = ::ftruncate(descriptor_, n_bytes_) == 0;
    fail("cannot write '{}': {}; {}. {}", path_, errno_text(code), remedy(code),
         cut ? "Its rows so far are whole" : "Its last line may be cut short");
}

}  // namespace mixserve::io
