#include "io/number_text.h"

#include <fmt/format.h>

#include <cmath>

namespace mixserve::io {

std::string grouped(int64_t count) {
    std::string text = std::to_string(count);
    const auto first_digit = static_cast<std::ptrdiff_t>(text[0] == '-');
    for (auto i = static_cast<std::ptrdiff_t>(text.size()) - 3; i > first_digit; i -= 3)
        text.insert(static_cast<size_t>(i), 1, ',');
    return text;
}

std::string rate_text(double per_second) {
    if (per_second < 9.995) return fmt::format("{:.2f}", per_second);
    if (per_second < 99.95) return fmt::format("{:.1f}", per_second);
    return grouped(std::llround(per_second));
}

std::string duration_text(double seconds) {
    if (seconds < 9.995) return fmt::format("{:.2f} s", seconds);
    const int64_t whole = std::llround(seconds);
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
    const int64_t minutes = std::llround(seconds / 60);
    return fmt::format("{} h {:02} min", grouped(minutes / 60), minutes % 60);
}

}  // namespace mixserve::io
