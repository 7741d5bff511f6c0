#include "base/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <string_view>

namespace mixserve {
namespace {

bool is_open_mpi(pid_t process) {
    constexpr std::array<std::string_view, 5> launchers{"mpirun", "mpiexec", "orterun", "orted", "prted"};
    std::string name;
    std::ifstream file("/proc/" + std::to_string(process) + "/comm");
    std::getline(file, name);
    return std::find(launchers.begin(), launchers.end(), name) != launchers.end();
}

}  // namespace

void kill_launcher_that_stays(unsigned patience_s) {
    const pid_t launcher = ::getppid();
    // Stands for this very process, also when its number is given to another one.
    const auto handle = static_cast<int>(::syscall(SYS_pidfd_open, launcher, 0));
    if (handle < 0) return;
    if (!is_open_mpi(launcher) || ::fork() != 0) {
        ::close(handle);
        return;
    }
    // The child of a process with threads: nothing but calls that are safe in a signal's handler. It holds
    // none of the files of its parent, for whose end others wait, and is of no group that the launcher ends.
    ::setsid();
    const auto last = static_cast<unsigned>(handle);
    if (last > 0) ::syscall(SYS_close_range, 0U, last - 1, 0U);
    ::syscall(SYS_close_range, last + 1, ~0U, 0U);
    pollfd ended{handle, POLLIN, 0};
    // In turns of a second: the time for which the whole machine was stopped counts as one.
    bool there = true;
    for (unsigned waited_s = 0; there && waited_s < patience_s; ++waited_s)
        there = ::poll(&ended, 1, 1000) <= 0;
    if (there) ::syscall(SYS_pidfd_send_signal, handle, SIGKILL, nullptr, 0U);
    _exit(0);
}

}  // namespace mixserve
