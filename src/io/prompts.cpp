#include "io/prompts.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/file_calls.h"
#include "base/heartbeat.h"
#include "base/utf8.h"
#include "io/line_reader.h"
#include "io/prompt_line.h"

namespace mixserve::io {
namespace {

bool is_json_lines(const std::string& path) {
    if (path.ends_with(".jsonl") || path.ends_with(".ndjson")) return true;
    require_usage(
        path.ends_with(".txt"),
        "'{}': the name of a file of prompts ends in .jsonl (an object a line) or .txt (a prompt a line)",
        path);
    return false;
}

}  // namespace

struct PromptReader::Impl {
    LineReader lines;
    bool json_lines;
    SamplingDefaults defaults;
    PromptLimits limits;
    RowIndex rows;
    bool has_row = false;
    int64_t n_lines = 0;
    int64_t n_blank = 0;

    Request parse(const LineReader::Line& line) {
        Request request = parse_line(line);
        has_row = rows.has_error_row(request.line) || (!request.error && rows.ids.has_row(request.id));
        return request;
    }

    Request parse_line(const LineReader::Line& line) {
        if (line.too_long)
            return bad_line(line.number, fmt::format("longer than {} bytes", limits.max_line_bytes));
        if (!json_lines) return parse_text_line(line.text, line.number, defaults);
        Request request = parse_json_line(line.text, line.number, defaults, limits);
        // A line without an id of its own, as bad JSON is, claims its number only when it is served.
        if (request.error && request.id_is_number) return request;
        const std::optional<int64_t> earlier = rows.ids.add(request.id, line.number);
        if (earlier && !request.error)
            request.error = at_line(line.number, fmt::format("the id {} is already that of line {}",
                                                             in_quotes(request.id), *earlier));
        return request;
    }
};

PromptReader::PromptReader(const std::string& path, SamplingDefaults defaults, PromptLimits limits,
                           RowIndex rows)
    : impl_(new Impl{
          {path, limits.max_line_bytes}, is_json_lines(path), std::move(defaults), limits, std::move(rows)}) {
}
PromptReader::~PromptReader() = default;
PromptReader::PromptReader(PromptReader&&) noexcept = default;
PromptReader& PromptReader::operator=(PromptReader&&) noexcept = default;

std::optional<Request> PromptReader::next() {
    while (const std::optional<LineReader::Line> line = impl_->lines.next()) {
        impl_->n_lines = line->number;
        if (!line->is_blank()) return impl_->parse(*line);
        ++impl_->n_blank;
    }
    return std::nullopt;
}

bool PromptReader::has_row() const {
    return impl_->has_row;
}
const IdSet& PromptReader::ids() const {
    return impl_->rows.ids;
}
int64_t PromptReader::n_lines() const {
    return impl_->n_lines;
}
int64_t PromptReader::n_blank() const {
    return impl_->n_blank;
}
int64_t PromptReader::bytes_read() const {
    return impl_->lines.bytes_read();
}

std::string PromptReader::digest() const {
    return impl_->lines.digest();
}

void check_is_rereadable(const std::string& path) {
    const FileCallScope looking("looking at", path);
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    require_usage(
        !std::filesystem::exists(status) || std::filesystem::is_regular_file(status) ||
            std::filesystem::is_directory(status),
        "'{}' is a pipe or a device, and the input is read more than once: write it to a file first", path);
}

InputFacts scan_input(const std::string& path, const Shard& shard) {
    LineReader lines(path, PromptLimits{}.max_line_bytes);
    InputFacts facts;
    while (const std::optional<LineReader::Line> line = lines.next()) {
        heartbeat.beat();
        if (line->is_blank()) continue;
        ++facts.n_prompts;
        if (shard.takes(line->number)) ++facts.n_in_shard;
    }
    facts.n_bytes = lines.bytes_read();
    facts.digest = lines.digest();
    return facts;
}

}  // namespace mixserve::io
