// Stands in front of the C library (LD_PRELOAD) and makes faults that a test cannot make otherwise:
//   FAULT_HANG=CALL:TEXT:N      the N-th CALL (open, read, pread, write, fsync, fdatasync) on a file whose
//                               path has TEXT in it never returns, as with a file server that is gone
//   FAULT_SLOW=CALL:TEXT:S      every such CALL takes S seconds longer
//   FAULT_CLOCK=SECONDS         the wall clock jumps by SECONDS, forward and back, three times a second
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

namespace {

/// The last part of "CALL:TEXT:LAST" in the variable `fault`; null where it does not mean this call.
const char* meant(const char* fault, const char* call, const char* path) {
    const char* wanted = std::getenv(fault);
    if (wanted == nullptr) return nullptr;
    const std::string all(wanted);
    const size_t first = all.find(':');
    const size_t last = all.rfind(':');
    if (all.substr(0, first) != call) return nullptr;
    if (std::strstr(path, all.substr(first + 1, last - first - 1).c_str()) == nullptr) return nullptr;
    return wanted + last + 1;
}

void suffer(const char* call, const char* path) {
    if (const char* seconds = meant("FAULT_SLOW", call, path))
        usleep(static_cast<useconds_t>(std::atof(seconds) * 1e6));
    static std::atomic<int> n_calls{0};
    const char* number = meant("FAULT_HANG", call, path);
    if (number == nullptr || ++n_calls != std::atoi(number)) return;
    for (;;)
        pause();
}

void suffer(const char* call, int descriptor) {
    if (std::getenv("FAULT_HANG") == nullptr && std::getenv("FAULT_SLOW") == nullptr) return;
    const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
    std::array<char, 4096> path{};
    if (readlink(link.c_str(), path.data(), path.size() - 1) > 0) suffer(call, path.data());
}

int64_t jump_s() {
    const char* seconds = std::getenv("FAULT_CLOCK");
    if (seconds == nullptr) return 0;
    timespec now{};
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    const int64_t third = now.tv_sec * 3 + now.tv_nsec / 333'333'334;
    return (third % 3 - 1) * std::atoll(seconds);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const int mode = va_arg(rest, int);
    va_end(rest);
    suffer("open", path);
    return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
int open64(const char* path, int flags, ...) __attribute__((alias("open")));

ssize_t read(int descriptor, void* out, size_t n) {
    suffer("read", descriptor);
    return syscall(SYS_read, descriptor, out, n);
}

ssize_t pread(int descriptor, void* out, size_t n, off_t offset) {
    suffer("pread", descriptor);
    return syscall(SYS_pread64, descriptor, out, n, offset);
}
ssize_t pread64(int descriptor, void* out, size_t n, off64_t offset) __attribute__((alias("pread")));

ssize_t write(int descriptor, const void* data, size_t n) {
    suffer("write", descriptor);
    return syscall(SYS_write, descriptor, data, n);
}

int fsync(int descriptor) {
    suffer("fsync", descriptor);
    return static_cast<int>(syscall(SYS_fsync, descriptor));
}

int fdatasync(int descriptor) {
    suffer("fdatasync", descriptor);
    return static_cast<int>(syscall(SYS_fdatasync, descriptor));
}

int clock_gettime(clockid_t clock, timespec* now) noexcept {
    const int result = static_cast<int>(syscall(SYS_clock_gettime, clock, now));
    if (clock == CLOCK_REALTIME && result == 0) now->tv_sec += jump_s();
    return result;
}

int gettimeofday(timeval* now, void* /*zone*/) noexcept {
    timespec precise{};
    clock_gettime(CLOCK_REALTIME, &precise);
    *now = {precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

time_t time(time_t* out) noexcept {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr) *out = now.tv_sec;
    return now.tv_sec;
}

}  // extern "C"
