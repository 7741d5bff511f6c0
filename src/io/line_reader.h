#pragma once

#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mixserve::io {

/// Reads a text file line by line: LF or CRLF, a byte order mark at the start passed over, the last line with
/// or without a newline. Memory stays below the longest line allowed.
class LineReader {
  public:
    struct Line {
        std::string_view text;  // without its end; valid until the next call
        int64_t number = 0;     // from 1
        int64_t end = 0;        // the byte after it and its newline
        bool ended = false;     // by a newline, not by the end of the file
        bool too_long = false;  // then `text` is empty
        bool is_blank() const;  // nothing but spaces
    };

    /// UsageError where the file is missing, unreadable, a folder, compressed, or UTF-16.
    LineReader(const std::string& path, int64_t max_line_bytes);
    ~LineReader();
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;

    /// Error where the file cannot be read any further.
    std::optional<Line> next();
    int64_t bytes_read() const { return bytes_read_; }
    /// XXH3 (128 bits) of the bytes read so far, as 32 hex digits; after the last line, of the file.
    std::string digest() const;

  private:
    bool fill();
    void check_start() const;

    std::string path_;
    size_t max_line_bytes_;
    int descriptor_ = -1;
    std::vector<char> buffer_;
    std::string_view rest_;  // of the buffer
    std::string line_;       // one that spans buffers
    int64_t n_lines_ = 0;
    int64_t bytes_read_ = 0;
    std::unique_ptr<XXH3_state_s, XXH_errorcode (*)(XXH3_state_s*)> hash_;
};

}  // namespace mixserve::io
