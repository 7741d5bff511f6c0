#include "io/row_parts.h"

#include <charconv>
#include <cmath>

namespace mixserve::io {

std::string line_of(const ordered_json& row) {
    return row.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

double shortest(float value) {
    if (!std::isfinite(value)) return value;
    char digits[32];
    const std::to_chars_result end = std::to_chars(digits, digits + sizeof(digits), value);
    double wide = 0;
    std::from_chars(digits, end.ptr, wide);
    return wide;
}

double rounded_ms(double ms) {
    return std::round(ms * 1000) / 1000;
}

double rounded_s(double seconds) {
    return std::round(seconds * 1e6) / 1e6;
}

ordered_json id_entry(const std::string& id, bool is_number) {
    return is_number ? ordered_json::parse(id) : ordered_json(id);
}

std::string_view text_of(FinishReason reason) {
    return reason == FinishReason::stop ? "stop" : "length";
}

ordered_json usage_entry(const Result& result) {
    const int64_t n_completion = result.n_completion_tokens();
    return {{"prompt_tokens", result.n_prompt_tokens},
            {"completion_tokens", n_completion},
            {"total_tokens", result.n_prompt_tokens + n_completion}};
}

}  // namespace mixserve::io
