#include "io/raw_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.h"
#include "base/file_calls.h"
#include "base/heartbeat.h"

namespace mixserve::io {
namespace {

// A single call moves less than 2 GiB on Linux; a smaller bound also keeps a stop by a signal short, and lets
// the watchdog see that a slow file system gets on.
constexpr int64_t max_call_bytes = int64_t{64} << 20;

int open_file(const std::string& path, int flags) {
    const FileCallScope opening("opening", path);
    int descriptor;
    do {
        descriptor = ::open(path.c_str(), flags | O_CLOEXEC);
    } while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

}  // namespace

RawFile RawFile::open_for_reading(const std::string& path) {
    const int descriptor = open_file(path, O_RDONLY);
    require_usage(descriptor >= 0, "cannot open {}: {}", path, errno_text(errno));
    RawFile file(path, descriptor);
    struct stat status {};
    require_usage(::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode), "{} is not a file", path);
    return file;
}

RawFile RawFile::open_for_writing(const std::string& path) {
    const int descriptor = open_file(path, O_RDWR);
    require(descriptor >= 0, "cannot open {} for writing: {}", path, errno_text(errno));
    return {path, descriptor};
}

RawFile::~RawFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

RawFile::RawFile(RawFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

RawFile& RawFile::operator=(RawFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
}

int64_t RawFile::n_bytes() const {
    struct stat status {};
    const int result = ::fstat(descriptor_, &status);
    require(result == 0, "cannot look at {}: {}", path_, errno_text(errno));
    return status.st_size;
}

void RawFile::read(int64_t offset, void* out, int64_t n_bytes) const {
    auto* cursor = static_cast<char*>(out);
    while (n_bytes > 0) {
        const FileCallScope reading("reading", path_);
        const ssize_t n =
            ::pread(descriptor_, cursor, static_cast<size_t>(std::min(n_bytes, max_call_bytes)), offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("cannot read {} at byte {}: {}", path_, offset, errno_text(errno));
        if (n == 0)
            fail("{} ends at byte {}, with {} more bytes expected: it was cut off", path_, offset, n_bytes);
        cursor += n;
        offset += n;
        n_bytes -= n;
        heartbeat.beat();  // a large tensor from a slow file system takes minutes
    }
}

void RawFile::write(int64_t offset, const void* data, int64_t n_bytes) {
    const auto* cursor = static_cast<const char*>(data);
    while (n_bytes > 0) {
        const ssize_t n =
            ::pwrite(descriptor_, cursor, static_cast<size_t>(std::min(n_bytes, max_call_bytes)), offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            fail("cannot write {} at byte {}: {}", path_, offset, errno_text(n == 0 ? ENOSPC : errno));
        cursor += n;
        offset += n;
        n_bytes -= n;
    }
}

void RawFile::sync() {
    const int result = ::fsync(descriptor_);
    require(result == 0, "cannot write {} to the disk: {}", path_, errno_text(errno));
}

void sync_folder(const std::string& folder) {
    const int descriptor = open_file(folder, O_RDONLY | O_DIRECTORY);
    require(descriptor >= 0, "cannot open the folder {}: {}", folder, errno_text(errno));
    const FileCallScope syncing("bringing to the disk", folder);
    const int result = ::fsync(descriptor);
    const int code = errno;
    ::close(descriptor);
    // Some network file systems cannot sync a folder; the names are then as safe as they make them.
    require(result == 0 || code == EINVAL || code == ENOTSUP, "cannot write the folder {} to the disk: {}",
            folder, errno_text(code));
}

}  // namespace mixserve::io
