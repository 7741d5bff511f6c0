#include "io/row_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/file_calls.h"
#include "io/raw_file.h"

namespace mixserve::io {
namespace {

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

std::string_view write_remedy(int code) {
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

void write_file_atomically(const std::string& path, std::string_view text) {
    const FileCallScope writing("writing", path);
    const std::string temporary = path + ".part";
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    require(descriptor >= 0, "cannot write '{}': {}; {}", temporary, errno_text(errno), write_remedy(errno));
    int code = write_all(descriptor, text);
    if (code == 0 && ::fsync(descriptor) != 0) code = errno;
    if (::close(descriptor) != 0 && code == 0) code = errno;
    if (code == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) code = errno;
    if (code == 0) {
        const std::string folder = std::filesystem::path(path).parent_path();
        sync_folder(folder.empty() ? "." : folder);
        return;
    }
    ::unlink(temporary.c_str());
    fail("cannot write '{}': {}; {}", path, errno_text(code), write_remedy(code));
}

RowWriter::RowWriter(std::string path, int descriptor, int64_t n_bytes)
    : path_(std::move(path)), descriptor_(descriptor), n_bytes_(n_bytes), checked_s_(now_s()) {}

RowWriter RowWriter::create(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    require_usage(descriptor >= 0, "cannot make '{}': {}; {}", path, errno_text(errno),
                  errno == EEXIST ? "give a new output folder" : write_remedy(errno));
    return {path, descriptor, 0};
}

RowWriter RowWriter::append(const std::string& path, int64_t n_bytes) {
    const FileCallScope opening("opening", path);
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    require_usage(descriptor >= 0, "cannot write '{}': {}; {}", path, errno_text(errno), write_remedy(errno));
    RowWriter writer(path, descriptor, n_bytes);
    struct stat status {};
    if (::fstat(descriptor, &status) != 0 ||
        (status.st_size != n_bytes && ::ftruncate(descriptor, n_bytes) != 0))
        fail("cannot cut '{}' back to its whole rows: {}; {}", path, errno_text(errno), write_remedy(errno));
    return writer;
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
    std::swap(checked_s_, other.checked_s_);
    std::swap(line_, other.line_);
    return *this;
}

void RowWriter::write(std::string_view row) {
    MIXSERVE_ASSERT(row.find('\n') == std::string_view::npos);
    line_.assign(row).push_back('\n');
    write_lines(line_);
}

void RowWriter::write_lines(std::string_view lines) {
    const FileCallScope writing("writing", path_);
    if (const int code = write_all(descriptor_, lines); code != 0) give_up(code);
    n_bytes_ += static_cast<int64_t>(lines.size());
    constexpr double check_every_s = 1;
    if (now_s() - checked_s_ < check_every_s) return;
    check_in_place();
    checked_s_ = now_s();
}

void RowWriter::sync() const {
    const FileCallScope syncing("bringing to the disk", path_);
    while (::fdatasync(descriptor_) != 0) {
        // EINVAL: what is written to (a pipe, a device) has no disk behind it.
        if (errno == EINVAL) break;
        if (errno != EINTR)
            fail(
                "cannot bring '{}' to the disk: {}; {}. Rows since the last time may be lost there; start "
                "again with --resume",
                path_, errno_text(errno), write_remedy(errno));
    }
}

void RowWriter::check_in_place() const {
    struct stat own {};
    struct stat there {};
    if (::fstat(descriptor_, &own) != 0 || !S_ISREG(own.st_mode)) return;
    const bool same =
        ::stat(path_.c_str(), &there) == 0 && there.st_dev == own.st_dev && there.st_ino == own.st_ino;
    require(same, "'{}' was removed or moved while the job wrote to it", path_);
    require(own.st_size == n_bytes_,
            "another program has written to '{}' or cut it while the job ran: it has {} bytes, and the job "
            "wrote {}",
            path_, own.st_size, n_bytes_);
}

void RowWriter::give_up(int code) {
    const bool cut = ::ftruncate(descriptor_, n_bytes_) == 0;
    fail("cannot write '{}': {}; {}. {}", path_, errno_text(code), write_remedy(code),
         cut ? "Its rows so far are whole" : "Its last line may be cut short");
}

}  // namespace mixserve::io
