#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/config.h"

namespace mixserve::model {

ConfigReader::ConfigReader(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
    require_usage(object_.is_object(), "{}: not a JSON object", where_);
}

void ConfigReader::refuse(std::string_view key, const std::string& why) const {
    fail_usage("{}: '{}' {}", where_, key, why);
}

bool ConfigReader::has(std::string_view key) const {
    const auto it = object_.find(key);
    return it != object_.end() && !it->is_null();
}

const json& ConfigReader::value(std::string_view key) {
    seen_.emplace_back(key);
    const auto it = object_.find(key);
    if (it == object_.end()) refuse(key, "is missing");
    return *it;
}

int64_t ConfigReader::integer(std::string_view key) {
    const json& v = value(key);
    if (v.is_number_float() && std::floor(v.get<double>()) == v.get<double>())
        return static_cast<int64_t>(v.get<double>());
    if (!v.is_number_integer()) refuse(key, "is not a whole number: " + v.dump());
    return v.get<int64_t>();
}

int64_t ConfigReader::integer(std::string_view key, int64_t by_default) {
    seen_.emplace_back(key);
    return has(key) ? integer(key) : by_default;
}

double ConfigReader::number(std::string_view key) {
    const json& v = value(key);
    if (!v.is_number()) refuse(key, "is not a number: " + v.dump());
    return v.get<double>();
}

double ConfigReader::number(std::string_view key, double by_default) {
    seen_.emplace_back(key);
    return has(key) ? number(key) : by_default;
}

bool ConfigReader::boolean(std::string_view key, bool by_default) {
    seen_.emplace_back(key);
    if (!has(key)) return by_default;
    const json& v = value(key);
    if (!v.is_boolean()) refuse(key, "is not true or false: " + v.dump());
    return v.get<bool>();
}

std::string ConfigReader::text(std::string_view key, const std::string& by_default) {
    seen_.emplace_back(key);
    if (!has(key)) return by_default;
    const json& v = value(key);
    if (!v.is_string()) refuse(key, "is not a text: " + v.dump());
    return v.get<std::string>();
}

int64_t ConfigReader::integer_of(std::initializer_list<std::string_view> keys) {
    std::optional<int64_t> found;
    for (const std::string_view key : keys) {
        seen_.emplace_back(key);
        if (!has(key)) continue;
        const int64_t v = integer(key);
        if (found && *found != v) refuse(key, "contradicts '" + std::string(*keys.begin()) + "'");
        found = v;
    }
    if (!found) refuse(*keys.begin(), "is missing");
    return *found;
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
    for (const std::string_view key : keys)
        seen_.emplace_back(key);
}

void ConfigReader::only(std::string_view key, const json& wanted) {
    seen_.emplace_back(key);
    if (has(key) && object_.at(std::string(key)) != wanted) {
        refuse(key, "is " + object_.at(std::string(key)).dump() + "; mixserve has only " + wanted.dump());
    }
}

void ConfigReader::refuse_the_rest() const {
    for (const auto& [key, v] : object_.items()) {
        const bool harmless = v.is_null() || v == json(false) || v == json::array() || v == json::object();
        if (harmless || std::find(seen_.begin(), seen_.end(), key) != seen_.end()) continue;
        refuse(key, "is not known to mixserve (its value: " + v.dump().substr(0, 60) +
                        "); if it does not change what the model computes, remove it from the config");
    }
}

}  // namespace mixserve::model
