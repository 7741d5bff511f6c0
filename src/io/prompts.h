#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "io/request.h"

namespace mixserve::io {

struct PromptLimits {
    int64_t max_line_bytes = int64_t{64} << 20;
    int max_json_depth = 200;           // of lists and objects in each other
    std::optional<int64_t> vocab_size;  // token ids must be below
};

/// Reads a file of prompts line by line: .jsonl (also .ndjson), whose lines may mix all forms (DESIGN.md
/// section 2), and .txt, a prompt a line. Holds one line at a time, and 24 bytes an id seen, to find doubled
/// ones.
class PromptReader {
  public:
    /// UsageError where the file is missing, unreadable, of another kind, compressed, or UTF-16.
    explicit PromptReader(const std::string& path, SamplingDefaults defaults = {}, PromptLimits limits = {});
    ~PromptReader();
    PromptReader(PromptReader&&) noexcept;
    PromptReader& operator=(PromptReader&&) noexcept;

    /// The next prompt, one with `error` for a bad line (`form` and `id` as far as they could be read);
    /// nothing at the end. Blank lines are passed over. Error where the file cannot be read any further.
    std::optional<Request> next();

    int64_t n_lines() const;  // so far, blank ones included
    int64_t n_blank() const;
    int64_t bytes_read() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Lines that are not blank: the rows that a job over the file will have. One pass over the bytes.
int64_t count_prompts(const std::string& path);

}  // namespace mixserve::io
