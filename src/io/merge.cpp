#include "io/merge.h"

#include <charconv>
#include <filesystem>
#include <optional>

#include "base/error.h"

namespace mixserve::io {
namespace {

constexpr size_t n_named_at_most = 10;
constexpr size_t buffer_bytes = size_t{1} << 20;

void name_some(std::vector<PromptName>& names, const std::string& id, int64_t line) {
    if (names.size() < n_named_at_most) names.push_back({id, line});
}

// 0 where the text is none.
int64_t whole_number(std::string_view text) {
    int64_t value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    return error == std::errc() && end == last ? value : 0;
}

/// By line number, from 1; grows as lines are seen.
class LineFlags {
  public:
    void resize(int64_t n_lines) { flags_.resize(static_cast<size_t>(n_lines) + 1); }
    bool at(int64_t line) const {
        return line >= 0 && static_cast<size_t>(line) < flags_.size() && flags_[static_cast<size_t>(line)];
    }
    void set(int64_t line) { flags_[static_cast<size_t>(line)] = true; }

  private:
    std::vector<bool> flags_;
};

}  // namespace

MergeReport merge_rows(const MergeInput& input, const std::vector<std::string>& row_files,
                       RowWriter& writer) {
    MergeReport report;
    const auto new_reader = [&] { return PromptReader(input.input_file, input.defaults, input.limits); };
    std::optional<PromptReader> prompts(new_reader());
    LineFlags is_prompt;
    while (const std::optional<Request> request = prompts->next()) {
        is_prompt.resize(prompts->n_lines());
        is_prompt.set(request->line);
        ++report.n_prompts;
    }
    require_usage(prompts->digest() == input.digest,
                  "'{}' is not the input that the jobs had (its digest is {}, and was {})", input.input_file,
                  prompts->digest(), input.digest);
    const int64_t n_lines = prompts->n_lines();
    const bool ids_are_lines = input.input_file.ends_with(".txt");
    // The line that a row is of; 0 where it is of none.
    const auto line_of = [&](const RowFacts& row) -> int64_t {
        if (row.failed) return row.error_line;
        if (ids_are_lines) return whole_number(row.id);
        return prompts->ids().line_of(row.id).value_or(0);
    };

    LineFlags has_row;
    LineFlags has_two;
    has_row.resize(n_lines);
    has_two.resize(n_lines);
    std::string buffer;
    for (const std::string& path : row_files) {
        if (!std::filesystem::exists(path)) continue;  // of a job that died before its first row
        scan_rows(path, [&](const RowFacts& row, std::string_view text) {
            const int64_t line = line_of(row);
            if (!is_prompt.at(line)) {
                ++report.n_foreign;
                name_some(report.foreign, row.id, 0);
                return;
            }
            if (has_row.at(line)) {
                if (has_two.at(line)) return;
                has_two.set(line);
                ++report.n_doubled;
                name_some(report.doubled, row.id, line);
                return;
            }
            has_row.set(line);
            report.totals.add(row);
            buffer.append(text).push_back('\n');
            if (buffer.size() < buffer_bytes) return;
            writer.write_lines(buffer);
            buffer.clear();
        });
    }
    writer.write_lines(buffer);

    report.n_missing = report.n_prompts - report.totals.n_rows();
    if (report.n_missing == 0) return report;
    // Their ids stand in the input only. One set of them at a time is in memory.
    prompts.reset();
    prompts.emplace(new_reader());
    while (const std::optional<Request> request = prompts->next()) {
        if (report.missing.size() == n_named_at_most) break;
        if (!has_row.at(request->line)) name_some(report.missing, request->id, request->line);
    }
    return report;
}

}  // namespace mixserve::io
