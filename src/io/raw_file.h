#pragma once

#include <cstdint>
#include <string>

namespace mixserve::io {

/// A file read and written by position. Every error names the file and the system's reason.
class RawFile {
  public:
    RawFile() = default;
    /// UsageError when the file is missing, not readable or not a regular file.
    static RawFile open_for_reading(const std::string& path);
    /// An existing file, for reading and writing.
    static RawFile open_for_writing(const std::string& path);
    ~RawFile();
    RawFile(RawFile&& other) noexcept;
    RawFile& operator=(RawFile&& other) noexcept;

    const std::string& path() const { return path_; }
    int64_t n_bytes() const;

    /// Reads exactly `n_bytes`; an end of file before that is an Error. Safe from several threads.
    void read(int64_t offset, void* out, int64_t n_bytes) const;
    void write(int64_t offset, const void* data, int64_t n_bytes);
    /// Returns when the bytes are on the disk.
    void sync();

  private:
    RawFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
    std::string path_;
    int descriptor_ = -1;
};

/// Makes a folder's entries (names made, changed and removed) last through a crash.
void sync_folder(const std::string& folder);

}  // namespace mixserve::io
