#include "io/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/file_calls.h"
#include "io/digest.h"

namespace mixserve::io {
namespace {

constexpr size_t buffer_bytes = size_t{1} << 20;

}  // namespace

bool LineReader::Line::is_blank() const {
    return !too_long && text.find_first_not_of(" \t\r") == std::string_view::npos;
}

LineReader::LineReader(const std::string& path, int64_t max_line_bytes)
    : path_(path),
      max_line_bytes_(static_cast<size_t>(max_line_bytes)),
      buffer_(buffer_bytes),
      hash_(XXH3_createState(), XXH3_freeState) {
    XXH3_128bits_reset(hash_.get());
    std::optional<FileCallScope> opening(std::in_place, "opening", path);
    struct stat status {};
    const bool there = ::stat(path.c_str(), &status) == 0;
    require_usage(there, "cannot read '{}': {}", path, errno_text(errno));
    require_usage(!S_ISDIR(status.st_mode), "'{}' is a folder; give a file of prompts (.jsonl or .txt)",
                  path);
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require_usage(descriptor_ >= 0, "cannot read '{}': {}", path, errno_text(errno));
    opening.reset();
    try {
        fill();
        check_start();
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
}

LineReader::~LineReader() {
    ::close(descriptor_);
}

void LineReader::check_start() const {
    require_usage(!rest_.starts_with("\x1F\x8B") && !rest_.starts_with("\x28\xB5\x2F\xFD"),
                  "'{}' is compressed; unpack it first (gunzip, zstd -d)", path_);
    require_usage(!rest_.starts_with("\xFF\xFE") && !rest_.starts_with("\xFE\xFF"),
                  "'{}' is UTF-16; convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8)", path_);
}

bool LineReader::fill() {
    const FileCallScope reading("reading", path_);
    ssize_t n;
    do {
        n = ::read(descriptor_, buffer_.data(), buffer_.size());
    } while (n < 0 && errno == EINTR);
    require(n >= 0, "cannot read '{}' after byte {}: {}", path_, bytes_read_, errno_text(errno));
    bytes_read_ += n;
    XXH3_128bits_update(hash_.get(), buffer_.data(), static_cast<size_t>(n));
    rest_ = {buffer_.data(), static_cast<size_t>(n)};
    return n > 0;
}

std::string LineReader::digest() const {
    return hex_digits(XXH3_128bits_digest(hash_.get()));
}

std::optional<LineReader::Line> LineReader::next() {
    line_.clear();
    if (line_.capacity() > buffer_bytes) line_.shrink_to_fit();
    if (rest_.empty() && !fill()) return std::nullopt;
    Line line;
    line.number = ++n_lines_;
    bool in_place = true;
    while (true) {
        const size_t end = rest_.find('\n');
        const std::string_view part = rest_.substr(0, end);
        line.too_long = line.too_long || line_.size() + part.size() > max_line_bytes_;
        rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
        if (end != std::string_view::npos && in_place) {
            line.text = part;
            line.ended = true;
            break;
        }
        in_place = false;
        if (line.too_long) {
            line_.clear();
        } else {
            line_.append(part);
        }
        if (end != std::string_view::npos || !fill()) {
            line.text = line_;
            line.ended = end != std::string_view::npos;
            break;
        }
    }
    line.end = bytes_read_ - static_cast<int64_t>(rest_.size());
    if (line.too_long) line.text = {};
    if (line.text.ends_with('\r')) line.text.remove_suffix(1);
    return line;
}

}  // namespace mixserve::io
