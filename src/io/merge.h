#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/prompts.h"
#include "io/row_scan.h"
#include "io/row_writer.h"

namespace mixserve::io {

/// A prompt, as messages name it.
struct PromptName {
    std::string id;
    int64_t line = 0;
};

/// What a set of row files lacks and has too much of, against the input that it is of.
struct MergeReport {
    RowTotals totals;  // of the rows that were written
    int64_t n_prompts = 0;
    int64_t n_missing = 0;
    int64_t n_doubled = 0;  // prompts with more than one row; the first was written
    int64_t n_foreign = 0;  // rows of no prompt of the input; not written
    // The first few of each; foreign rows without a line.
    std::vector<PromptName> missing;
    std::vector<PromptName> doubled;
    std::vector<PromptName> foreign;

    bool whole() const { return n_missing + n_doubled + n_foreign == 0; }
};

struct MergeInput {
    std::string input_file;
    std::string digest;         // InputFacts::digest of the jobs
    SamplingDefaults defaults;  // of the jobs: a line that is bad under them has no id of its own
    PromptLimits limits;
};

/// Writes the rows of `row_files`, one file after the other, to `writer`, each prompt's once. A torn row at
/// the end of a file, and a file that is not there, are passed over. UsageError where the input is another
/// one. Memory: 24 bytes an id, and three bits a line of input.
MergeReport merge_rows(const MergeInput& input, const std::vector<std::string>& row_files, RowWriter& writer);

}  // namespace mixserve::io
