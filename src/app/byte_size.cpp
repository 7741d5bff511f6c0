#include "app/byte_size.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace mixserve::app {
namespace {

constexpr std::string_view letters = "KMGT";

/// 0 where `unit` is none.
double unit_bytes(std::string_view unit) {
    if (unit.empty() || unit == "B" || unit == "b") return 1.0;
    const size_t power = letters.find(static_cast<char>(unit.front() & ~0x20));
    if (power == std::string_view::npos) return 0.0;
    const std::string_view rest = unit.substr(1);
    const bool decimal = rest == "B" || rest == "b";
    if (!decimal && !rest.empty() && rest != "iB" && rest != "ib") return 0.0;
    return std::pow(decimal ? 1000.0 : 1024.0, static_cast<double>(power + 1));
}

}  // namespace

int64_t parse_byte_size(std::string_view option, std::string_view text) {
    double number = 0.0;
    const auto [stop, error] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    std::string_view unit = text.substr(static_cast<size_t>(stop - text.data()));
    while (!unit.empty() && unit.front() == ' ')
        unit.remove_prefix(1);
    const double n_bytes = std::round(number * unit_bytes(unit));
    const bool good = error == std::errc() && std::isfinite(number) && number >= 0.0 &&
                      unit_bytes(unit) > 0.0 && n_bytes < 0x1p63;
    require_usage(good, "{}: '{}' is not a size; write it as 8GiB, 500MB or a number of bytes", option, text);
    return static_cast<int64_t>(n_bytes);
}

std::string byte_size_text(int64_t n_bytes) {
    if (n_bytes < 1024) return fmt::format("{} B", n_bytes);
    auto value = static_cast<double>(n_bytes);
    size_t power = 0;
    for (value /= 1024.0; value >= 999.5 && power + 1 < letters.size(); ++power)
        value /= 1024.0;
    return fmt::format("{:.3g} {}iB", value, letters[power]);
}

}  // namespace mixserve::app
