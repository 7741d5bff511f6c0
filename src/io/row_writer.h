#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mixserve::io {

/// Makes the folder of a job's output, with the folders above it. UsageError when it is a file, holds
/// anything already, or cannot be written.
void prepare_output_dir(const std::string& path);

/// Writes a whole file under another name and moves it into place, so that a reader sees the old text or the
/// new.
void write_file_atomically(const std::string& path, std::string_view text);

/// Appends whole lines to a file. Each is handed to the system when it is written, so that a killed program
/// loses none; with `sync_every_s`, the disk has all that is older than that at each write. Error on a full
/// disk or a failed device, after the file is cut back to its last whole line.
class RowWriter {
  public:
    RowWriter() = default;
    /// A new file; UsageError when it exists.
    static RowWriter create(const std::string& path, double sync_every_s = 0);
    ~RowWriter();
    RowWriter(RowWriter&& other) noexcept;
    RowWriter& operator=(RowWriter&& other) noexcept;

    /// `row` has no newline in it.
    void write(std::string_view row);
    /// Several rows with one call to the system; each ends in a newline.
    void write_lines(std::string_view lines);
    /// Returns when the bytes are on the disk.
    void sync();

    const std::string& path() const { return path_; }
    int64_t n_bytes() const { return n_bytes_; }

  private:
    RowWriter(std::string path, int descriptor, double sync_every_s);
    [[noreturn]] void give_up(int code);

    std::string path_;
    int descriptor_ = -1;
    int64_t n_bytes_ = 0;  // of whole lines
    double sync_every_s_ = 0;
    double synced_s_ = 0;
    std::string line_;
};

}  // namespace mixserve::io
