#include "base/system_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "base/error.h"

namespace mixserve {
namespace {

constexpr int64_t unlimited = std::numeric_limits<int64_t>::max();

int64_t read_number(const std::string& path) {
    std::ifstream in(path);
    int64_t value = 0;
    return in >> value ? value : unlimited;  // missing, or "max"
}

/// What is left under the limits of this process's control group and those above it (cgroup v2).
int64_t left_in_control_group() {
    std::ifstream in("/proc/self/cgroup");
    std::string line;
    int64_t left = unlimited;
    while (std::getline(in, line)) {
        if (!line.starts_with("0::")) continue;
        for (std::string path = line.substr(3);; path.erase(path.rfind('/'))) {
            const std::string folder = "/sys/fs/cgroup" + path;
            const int64_t limit = read_number(folder + "/memory.max");
            const int64_t used = read_number(folder + "/memory.current");
            if (limit != unlimited && used != unlimited)
                left = std::min(left, std::max<int64_t>(0, limit - used));
            if (path.empty() || path == "/") break;
        }
    }
    return left;
}

}  // namespace

int64_t available_memory_bytes() {
    std::ifstream in("/proc/meminfo");
    std::string key;
    int64_t kib = 0;
    while (in >> key >> kib) {
        if (key == "MemAvailable:") return std::min(kib * 1024, left_in_control_group());
        in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    fail("cannot read MemAvailable from /proc/meminfo; state --kv-cache-memory instead");
}

}  // namespace mixserve
