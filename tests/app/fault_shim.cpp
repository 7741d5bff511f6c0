// Stands in front of the C library (LD_PRELOAD) and makes faults that a test cannot make otherwise:
//   FAULT_HANG=CALL:TEXT:N      the N-th CALL (open, read, write, fdatasync) on a file whose path has TEXT in
//   it never
//                               returns, as with a file server that is gone
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

void hang_if_meant(const char* call, const char* path) {
    const char* wanted = std::getenv("FAULT_HANG");
    if (wanted == nullptr) return;
    const std::string all(wanted);
    const size_t first = all.find(':');
    const size_t last = all.rfind(':');
    if (all.substr(0, first) != call) return;
    if (std::strstr(path, all.substr(first + 1, last - first - 1).c_str()) == nullptr) return;
    static std::atomic<int> n_calls{0};
    if (++n_calls != std::atoi(all.c_str() + last + 1)) return;
    for (;;)
        pause();
}

void hang_if_meant(const char* call, int descriptor) {
    if (std::getenv("FAULT_HANG") == nullptr) return;
    const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
    std::array<char, 4096> path{};
    if (readlink(link.c_str(), path.data(), path.size() - 1) > 0) hang_if_meant(call, path.data());
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
    hang_if_meant("open", path);
    return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
int open64(const char* path, int flags, ...) __attribute__((alias("open")));

ssize_t read(int descriptor, void* out, size_t n) {
    hang_if_meant("read", descriptor);
    return syscall(SYS_read, descriptor, out, n);
}

ssize_t write(int descriptor, const void* data, size_t n) {
    hang_if_meant("write", descriptor);
    return syscall(SYS_write, descriptor, data, n);
}

int fdatasync(int descriptor) {
    hang_if_meant("fdatasync", descriptor);
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
