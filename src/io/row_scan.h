#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/id_set.h"

namespace mixserve::io {

/// What a row of output, of any form, tells about its prompt.
struct RowFacts {
    std::string id;  // a number as its digits
    bool failed = false;
    int64_t error_line = 0;  // of an error row: the line of input that it is of
    int64_t n_input_tokens = 0;
    int64_t n_output_tokens = 0;
    int64_t n_logprobs = 0;  // of a scored line
    double sum_logprobs = 0;
};

/// Reads a row back; nothing where `line` is no whole row.
std::optional<RowFacts> read_row(std::string_view line);

/// Sums over rows.
struct RowTotals {
    int64_t n_completed = 0;
    int64_t n_failed = 0;
    int64_t n_input_tokens = 0;
    int64_t n_output_tokens = 0;
    int64_t n_logprobs = 0;
    double sum_logprobs = 0;

    void add(const RowFacts& row);
    int64_t n_rows() const { return n_completed + n_failed; }
};

/// A file of rows, as a job left it, however it ended.
struct RowScan {
    RowTotals totals;
    int64_t n_bytes = 0;       // of its whole rows
    int64_t n_torn_bytes = 0;  // after them: a row that was being written when the job died
};

/// Goes through the rows of a file in order, a row in memory at a time. What follows the last whole row is
/// torn; UsageError where something that is no row stands before a whole one, naming the line.
RowScan scan_rows(const std::string& path,
                  const std::function<void(const RowFacts& row, std::string_view line)>& visit);

/// Which prompts have a row. A finished prompt is known by its id, and a bad line by its number: it may have
/// the id of another one.
struct RowIndex {
    IdSet ids;
    std::vector<int64_t> error_lines;  // sorted

    bool has_error_row(int64_t line) const;
};

/// As scan_rows; UsageError where a prompt has two rows.
RowScan index_rows(const std::string& path, RowIndex& index);

}  // namespace mixserve::io
