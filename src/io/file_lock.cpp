#include "io/file_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/file_calls.h"
#include "base/heartbeat.h"
#include "base/log.h"
#include "io/row_writer.h"

namespace mixserve::io {
namespace {

// 0, or the system's reason.
int lock(int descriptor, const std::string& path, short type) {
    const FileCallScope locking("locking", path);
    struct flock request {};
    request.l_type = type;
    request.l_whence = SEEK_SET;
    while (::fcntl(descriptor, F_SETLK, &request) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

bool is_held(int code) {
    return code == EACCES || code == EAGAIN;
}

json read_holder(int descriptor) {
    std::array<char, 4096> text{};
    const ssize_t n = ::pread(descriptor, text.data(), text.size(), 0);
    json holder = json::parse(text.begin(), text.begin() + std::max<ssize_t>(n, 0), nullptr, false);
    return holder.is_object() ? holder : json::object();
}

std::string text_of(const json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string described(const json& holder) {
    std::string text = "another process";
    if (holder.contains("pid")) text = "process " + text_of(holder["pid"]);
    if (holder.contains("host")) text += " on host " + text_of(holder["host"]);
    if (holder.contains("slurm_job_id")) text += ", Slurm job " + text_of(holder["slurm_job_id"]);
    return text;
}

bool is_earlier_start(const json& other, const ordered_json& own) {
    return other.contains("slurm_job_id") && own.contains("slurm_job_id") &&
           text_of(other["slurm_job_id"]) == text_of(own["slurm_job_id"]) &&
           other.value("slurm_restart_count", json()) !=
               json(own.value("slurm_restart_count", ordered_json()));
}

[[noreturn]] void refuse(const std::string& path, const json& holder) {
    fail_usage(
        "a job is running in this folder: '{}' is held by {}; wait for it, or give another output folder",
        path, described(holder));
}

void warn_without_locks(const std::string& path, int code) {
    spdlog::warn("'{}' cannot be locked ({}): see to it yourself that only one job writes there", path,
                 errno_text(code));
}

}  // namespace

FileLock FileLock::take(const std::string& path, const ordered_json& holder, double patience_s) {
    std::optional<FileCallScope> call(std::in_place, "opening", path);
    FileLock taken(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    const int descriptor = taken.descriptor_;
    require_usage(descriptor >= 0, "cannot make '{}': {}; {}", path, errno_text(errno), write_remedy(errno));
    call.reset();
    const double deadline_s = now_s() + patience_s;
    bool told = false;
    int code = 0;
    while (is_held(code = lock(descriptor, path, F_WRLCK))) {
        const json other = read_holder(descriptor);
        if (!is_earlier_start(other, holder) || now_s() > deadline_s) refuse(path, other);
        if (!std::exchange(told, true)) {
            spdlog::info("this job was requeued; waiting for the lock of its earlier start ({})",
                         described(other));
        }
        std::this_thread::sleep_for(std::chrono::seconds(1));
        heartbeat.beat();
    }
    taken.is_locked_ = code == 0;
    if (code != 0) warn_without_locks(path, code);
    // For people, and for whoever is refused: without it the lock is as good.
    const std::string text = holder.dump() + "\n";
    call.emplace("writing", path);
    if (::ftruncate(descriptor, 0) != 0 ||
        ::pwrite(descriptor, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
        spdlog::warn("cannot write to '{}': {}", path, errno_text(errno));
    }
    return taken;
}

FileLock FileLock::look(const std::string& path) {
    FileLock taken(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (taken.descriptor_ < 0) return taken;
    const int code = lock(taken.descriptor_, path, F_RDLCK);
    if (is_held(code)) refuse(path, read_holder(taken.descriptor_));
    if (code != 0) warn_without_locks(path, code);
    return taken;
}

FileLock::~FileLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

FileLock::FileLock(FileLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), is_locked_(other.is_locked_) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(is_locked_, other.is_locked_);
    return *this;
}

}  // namespace mixserve::io
