#include "base/text_file.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/file_calls.h"

namespace mixserve {

std::string read_text_file(const std::string& path) {
    const FileCallScope reading("reading", path);
    require_usage(!std::filesystem::is_directory(path), "cannot read '{}': it is a folder", path);
    errno = 0;
    const std::ifstream in(path, std::ios::binary);
    require_usage(in.is_open(), "cannot read '{}': {}", path, errno_text(errno));
    std::ostringstream text;
    text << in.rdbuf();
    require_usage(!text.bad(), "cannot read '{}': {}", path, errno_text(errno));  // an empty one only fails
    return text.str();
}

}  // namespace mixserve
