#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"

namespace mixserve::io {

struct JsonLinesRead {
    int64_t n_lines = 0;
    bool is_torn = false;  // the file ends within a line: it is being written, or its writer was killed
};

/// Hands the object of every whole line of a file to `take`, without the members named in `unread`, at any
/// depth (large texts and lists; they are parsed, but not kept). Memory: one line. Error, naming file and
/// line, where a whole line is no JSON object, where `take` finds a value of the wrong type
/// (json::exception), and where the file cannot be read.
JsonLinesRead read_json_lines(const std::string& path, std::span<const std::string_view> unread,
                              const std::function<void(const json&)>& take);

/// A whole file. Error where it cannot be read or is no JSON object.
json read_json_file(const std::string& path);

}  // namespace mixserve::io
