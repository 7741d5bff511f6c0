#include "io/row_scan.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/error.h"
#include "base/heartbeat.h"
#include "base/json.h"
#include "base/utf8.h"
#include "io/line_reader.h"
#include "io/prompt_line.h"

namespace mixserve::io {
namespace {

constexpr int64_t max_row_bytes = int64_t{16} << 30;

/// Picks what RowFacts needs out of a row as it is parsed: no tree of it is built.
class RowHandler {
  public:
    RowFacts facts;

    bool whole() const { return is_object_ && !facts.id.empty() && (!facts.failed || facts.error_line > 0); }

    // NOLINTBEGIN(readability-identifier-naming): names of nlohmann's interface
    bool null() { return true; }
    bool boolean(bool /*value*/) { return true; }
    bool number_integer(int64_t value) {
        take_integer(value, std::to_string(value));
        return true;
    }
    bool number_unsigned(uint64_t value) {
        take_integer(static_cast<int64_t>(value), std::to_string(value));
        return true;
    }
    bool number_float(double value, const std::string& /*text*/) {
        take_number(value);
        return true;
    }
    bool string(std::string& text) {
        if (at({"custom_id"})) {
            facts.id = text;
            is_batch_ = true;
        } else if (at({"id"}) && !is_batch_) {
            facts.id = text;
        } else if (at({"error"}) || at({"error", "message"})) {
            facts.failed = true;
            facts.error_line = line_of_error(text).value_or(0);
        }
        return true;
    }
    bool binary(std::vector<uint8_t>& /*bytes*/) { return false; }
    bool start_object(size_t /*n*/) {
        if (depth_ == 0) is_object_ = true;
        enter();
        return true;
    }
    bool key(std::string& name) {
        if (depth_ <= keys_.size()) keys_[depth_ - 1] = name;
        return true;
    }
    bool end_object() {
        --depth_;
        return true;
    }
    bool start_array(size_t /*n*/) {
        enter();
        return true;
    }
    bool end_array() { return end_object(); }
    template <class Exception>
    bool parse_error(size_t /*position*/, const std::string& /*token*/, const Exception& /*error*/) {
        return false;
    }
    // NOLINTEND(readability-identifier-naming)

  private:
    void enter() {
        ++depth_;
        if (depth_ <= keys_.size()) keys_[depth_ - 1].clear();
    }

    // Whether the value at hand stands under these keys; "" is a place in a list.
    bool at(std::initializer_list<std::string_view> keys) const {
        return depth_ == keys.size() && std::equal(keys.begin(), keys.end(), keys_.begin());
    }

    void take_integer(int64_t value, const std::string& digits) {
        if (at({"id"}) && !is_batch_) facts.id = digits;
        // Rows of `run` count their tokens, rows of `score` list them.
        if (at({"usage", "prompt_tokens"}) || at({"response", "body", "usage", "prompt_tokens"})) {
            facts.n_input_tokens = value;
            has_usage_ = true;
        }
        if (at({"usage", "completion_tokens"}) || at({"response", "body", "usage", "completion_tokens"}))
            facts.n_output_tokens = value;
        if (at({"token_ids", ""}) && !has_usage_) ++facts.n_input_tokens;
        take_number(static_cast<double>(value));
    }

    void take_number(double value) {
        if (!at({"logprobs", ""})) return;
        ++facts.n_logprobs;
        facts.sum_logprobs += static_cast<float>(value);
    }

    size_t depth_ = 0;
    std::array<std::string, 4> keys_;
    bool is_object_ = false;
    bool is_batch_ = false;
    bool has_usage_ = false;
};

}  // namespace

std::optional<RowFacts> read_row(std::string_view line) {
    RowHandler handler;
    if (!json::sax_parse(line.begin(), line.end(), &handler) || !handler.whole()) return std::nullopt;
    return std::move(handler.facts);
}

void RowTotals::add(const RowFacts& row) {
    if (row.failed) {
        ++n_failed;
        return;
    }
    ++n_completed;
    n_input_tokens += row.n_input_tokens;
    n_output_tokens += row.n_output_tokens;
    n_logprobs += row.n_logprobs;
    sum_logprobs += row.sum_logprobs;
}

RowScan scan_rows(const std::string& path,
                  const std::function<void(const RowFacts& row, std::string_view line)>& visit) {
    RowScan scan;
    LineReader lines(path, max_row_bytes);
    int64_t bad_line_number = 0;
    while (const std::optional<LineReader::Line> line = lines.next()) {
        heartbeat.beat();
        const std::optional<RowFacts> row = line->ended ? read_row(line->text) : std::nullopt;
        if (!row) {
            if (bad_line_number == 0) bad_line_number = line->number;
            continue;
        }
        require_usage(bad_line_number == 0,
                      "line {} of '{}' is damaged, and whole rows follow it; remove that line (sed -i {}d) "
                      "and start again",
                      bad_line_number, path, bad_line_number);
        scan.totals.add(*row);
        scan.n_bytes = line->end;
        visit(*row, line->text);
    }
    scan.n_torn_bytes = lines.bytes_read() - scan.n_bytes;
    return scan;
}

bool RowIndex::has_error_row(int64_t line) const {
    return std::binary_search(error_lines.begin(), error_lines.end(), line);
}

RowScan index_rows(const std::string& path, RowIndex& index) {
    RowScan scan = scan_rows(path, [&](const RowFacts& row, std::string_view) {
        if (row.failed) {
            index.error_lines.push_back(row.error_line);
        } else {
            require_usage(index.ids.add_row(row.id), "'{}' has two rows of the prompt {}; keep one of them",
                          path, in_quotes(row.id));
        }
    });
    std::sort(index.error_lines.begin(), index.error_lines.end());
    const auto twice = std::adjacent_find(index.error_lines.begin(), index.error_lines.end());
    require_usage(twice == index.error_lines.end(), "'{}' has two error rows of line {}; keep one of them",
                  path, twice == index.error_lines.end() ? 0 : *twice);
    return scan;
}

}  // namespace mixserve::io
