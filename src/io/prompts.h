#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "io/request.h"
#include "io/row_scan.h"

namespace mixserve::io {

struct PromptLimits {
    int64_t max_line_bytes = int64_t{64} << 20;
    int max_json_depth = 200;           // of lists and objects in each other
    std::optional<int64_t> vocab_size;  // token ids must be below
};

/// Reads a file of prompts line by line: .jsonl (also .ndjson), whose lines may mix all forms (DESIGN.md
/// section 2), and .txt, a prompt a line. Holds one line at a time, and 24 bytes an id seen, to find doubled
/// ones and those that have a row already.
class PromptReader {
  public:
    /// UsageError where the file is missing, unreadable, of another kind, compressed, or UTF-16.
    explicit PromptReader(const std::string& path, SamplingDefaults defaults = {}, PromptLimits limits = {},
                          RowIndex rows = {});
    ~PromptReader();
    PromptReader(PromptReader&&) noexcept;
    PromptReader& operator=(PromptReader&&) noexcept;

    /// The next prompt, one with `error` for a bad line (`form` and `id` as far as they could be read);
    /// nothing at the end. Blank lines are passed over. Error where the file cannot be read any further.
    std::optional<Request> next();
    /// Whether the prompt that next() returned last has a row in the index.
    bool has_row() const;
    /// The ids so far.
    const IdSet& ids() const;

    int64_t n_lines() const;  // so far, blank ones included
    int64_t n_blank() const;
    int64_t bytes_read() const;
    /// As InputFacts::digest, of what has been read so far.
    std::string digest() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// The prompts that a job takes of its input: those of line number L (from 1) with (L - 1) % count == index.
struct Shard {
    int64_t index = 0;
    int64_t count = 1;
    bool takes(int64_t line) const { return (line - 1) % count == index; }
};

struct InputFacts {
    int64_t n_bytes = 0;
    std::string digest;     // XXH3 of all bytes, 32 hex digits
    int64_t n_prompts = 0;  // lines that are not blank: the rows that a job over the whole file has
    int64_t n_in_shard = 0;
};

/// UsageError where `path` is a pipe or a device: a job reads its input more than once.
void check_is_rereadable(const std::string& path);

/// One pass over the bytes of a file of prompts.
InputFacts scan_input(const std::string& path, const Shard& shard = {});

}  // namespace mixserve::io
