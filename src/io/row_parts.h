#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "io/result.h"

namespace mixserve::io {

/// One line; bytes that are no UTF-8 become U+FFFD.
std::string line_of(const ordered_json& row);
/// The double of the shortest decimal that reads back as `value`.
double shortest(float value);
/// To a microsecond.
double rounded_ms(double ms);
double rounded_s(double seconds);
ordered_json id_entry(const std::string& id, bool is_number);
/// "stop" or "length".
std::string_view text_of(FinishReason reason);
/// {"prompt_tokens","completion_tokens","total_tokens"}
ordered_json usage_entry(const Result& result);

}  // namespace mixserve::io
