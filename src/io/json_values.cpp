#include "io/json_values.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/utf8.h"

namespace mixserve::io {
namespace {

[[noreturn]] void wrong_type(const ordered_json& value, std::string_view key, std::string_view wanted) {
    throw ValueError(fmt::format("'{}' must be {}, not {}", key, wanted, described(value)));
}

// 2^53: up to here every integer is a double.
bool is_exact_integer(double x) {
    return std::trunc(x) == x && std::abs(x) <= 9007199254740992.0;
}

}  // namespace

std::string described(const ordered_json& value) {
    switch (value.type()) {
        case ordered_json::value_t::null:
            return "null";
        case ordered_json::value_t::boolean:
            return value.get<bool>() ? "true" : "false";
        case ordered_json::value_t::string:
            return fmt::format("a text ({})", in_quotes(value.get_ref<const std::string&>()));
        case ordered_json::value_t::array:
            return "a list";
        case ordered_json::value_t::object:
            return "an object";
        default:
            return value.dump();
    }
}

bool bool_of(const ordered_json& value, std::string_view key) {
    if (!value.is_boolean()) wrong_type(value, key, "true or false");
    return value.get<bool>();
}

double number_of(const ordered_json& value, std::string_view key) {
    if (!value.is_number()) wrong_type(value, key, "a number");
    return value.get<double>();
}

int64_t integer_of(const ordered_json& value, std::string_view key) {
    if (value.is_number_unsigned()) {
        const auto wide = value.get<uint64_t>();
        if (wide > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
            throw ValueError(fmt::format("'{}' is out of range: {}", key, wide));
        return static_cast<int64_t>(wide);
    }
    if (value.is_number_integer()) return value.get<int64_t>();
    if (value.is_number_float() && is_exact_integer(value.get<double>()))
        return static_cast<int64_t>(value.get<double>());
    wrong_type(value, key, "an integer");
}

uint64_t unsigned_of(const ordered_json& value, std::string_view key) {
    if (value.is_number_unsigned()) return value.get<uint64_t>();
    const int64_t narrow = integer_of(value, key);
    if (narrow < 0) throw ValueError(fmt::format("'{}' must not be negative, but is {}", key, narrow));
    return static_cast<uint64_t>(narrow);
}

const std::string& text_of(const ordered_json& value, std::string_view key) {
    if (!value.is_string()) wrong_type(value, key, "a text");
    return value.get_ref<const std::string&>();
}

const ordered_json& object_of(const ordered_json& value, std::string_view key) {
    if (!value.is_object()) wrong_type(value, key, "an object");
    return value;
}

std::vector<int32_t> token_ids_of(const ordered_json& value, std::string_view key) {
    if (!value.is_array()) wrong_type(value, key, "a list of token ids");
    std::vector<int32_t> ids;
    ids.reserve(value.size());
    for (const ordered_json& item : value) {
        if (!item.is_number_integer()) {
            throw ValueError(fmt::format("'{}' holds {} at place {}, where a token id belongs", key,
                                         described(item), ids.size()));
        }
        const int64_t id = integer_of(item, key);
        if (id < 0 || id > std::numeric_limits<int32_t>::max())
            throw ValueError(
                fmt::format("token id {} at place {} of '{}' is out of range", id, ids.size(), key));
        ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
}

}  // namespace mixserve::io
