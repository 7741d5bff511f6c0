#include "io/json_lines.h"

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "base/error.h"
#include "io/line_reader.h"

namespace mixserve::io {
namespace {

constexpr int64_t max_line_bytes = int64_t{16} << 30;

}  // namespace

JsonLinesRead read_json_lines(const std::string& path, std::span<const std::string_view> unread,
                              const std::function<void(const json&)>& take) {
    const json::parser_callback_t keeps = [&](int, json::parse_event_t event, const json& value) {
        return event != json::parse_event_t::key ||
               std::find(unread.begin(), unread.end(), value.get_ref<const std::string&>()) == unread.end();
    };
    JsonLinesRead read;
    LineReader lines(path, max_line_bytes);
    while (const std::optional<LineReader::Line> line = lines.next()) {
        // A writer ends each line with a newline in one call.
        if (!line->ended) {
            read.is_torn = true;
            break;
        }
        ++read.n_lines;
        try {
            const json object = json::parse(line->text.begin(), line->text.end(), keeps);
            require(object.is_object(), "'{}': line {} is no JSON object", path, read.n_lines);
            take(object);
        } catch (const json::exception& e) {
            fail("'{}': line {} is not what a job writes: {}", path, read.n_lines, e.what());
        }
    }
    return read;
}

json read_json_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    require(static_cast<bool>(in), "cannot read '{}': {}", path, errno_text(errno));
    try {
        json object = json::parse(in);
        require(object.is_object(), "'{}' is no JSON object", path);
        return object;
    } catch (const json::exception& e) {
        fail("'{}' is no whole JSON file: {}", path, e.what());
    }
}

}  // namespace mixserve::io
