#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mixserve::io {

/// Writes a whole file under another name and moves it into place, so that a reader sees the old text or the
/// new.
void write_file_atomically(const std::string& path, std::string_view text);

/// What to do about a failed write, by the system's reason.
std::string_view write_remedy(int code);

/// Appends whole lines to a file. Each is handed to the system when it is written, so that a killed program
/// loses none; the disk of a machine that dies has what was there at the last sync(). Error on a full disk or
/// a failed device, after the file is cut back to its last whole line; and, seen within a second or two,
/// where the file was removed, moved, or written by another program.
class RowWriter {
  public:
    RowWriter() = default;
    /// A new file; UsageError when it exists.
    static RowWriter create(const std::string& path);
    /// Goes on with a file after its first `n_bytes`; what follows them is cut off. UsageError where it
    /// cannot be written.
    static RowWriter append(const std::string& path, int64_t n_bytes);
    ~RowWriter();
    RowWriter(RowWriter&& other) noexcept;
    RowWriter& operator=(RowWriter&& other) noexcept;

    /// `row` has no newline in it.
    void write(std::string_view row);
    /// Several rows with one call to the system; each ends in a newline.
    void write_lines(std::string_view lines);
    /// Returns when the bytes are on the disk. Any thread may call it, beside one that writes.
    void sync() const;
    /// Error where the file at the path is no longer what was written here.
    void check_in_place() const;

    const std::string& path() const { return path_; }
    int64_t n_bytes() const { return n_bytes_; }

  private:
    RowWriter(std::string path, int descriptor, int64_t n_bytes);
    [[noreturn]] void give_up(int code);

    std::string path_;
    int descriptor_ = -1;
    int64_t n_bytes_ = 0;  // of whole lines
    double checked_s_ = 0;
    std::string line_;
};

}  // namespace mixserve::io
