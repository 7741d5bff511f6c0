#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "io/prompts.h"

namespace mixserve::io {

/// A line of .jsonl as a request; a bad one has `error`, with `id` and `form` as far as they could be read.
Request parse_json_line(std::string_view text, int64_t line, const SamplingDefaults& defaults,
                        const PromptLimits& limits);

/// A line of .txt.
Request parse_text_line(std::string_view text, int64_t line, const SamplingDefaults& defaults);

/// A line that is bad as a whole.
Request bad_line(int64_t line, std::string_view cause);

/// The text of an error of a line: "line 7: cause".
std::string at_line(int64_t line, std::string_view cause);
/// The line in such a text; nothing in another one.
std::optional<int64_t> line_of_error(std::string_view text);

/// Lists and objects in each other at the deepest place of a JSON text; counts brackets outside of strings.
int json_depth(std::string_view text);

}  // namespace mixserve::io
