#include "text/json_node.h"

#include <algorithm>
#include <span>

#include "text/utf8.h"

namespace mixserve::text {

void JsonNode::allow_only(std::initializer_list<std::string_view> keys) const {
    if (!value_->is_object()) refuse("must be an object");
    for (const auto& [key, value] : value_->items()) {
        if (value.is_null() || std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
        refuse("unknown key '{}'{}", key,
               did_you_mean(key, std::span<const std::string_view>(keys.begin(), keys.size())));
    }
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
    if (!value_->is_object()) refuse("must be an object");
    const auto it = value_->find(key);
    if (it == value_->end() || it->is_null()) return std::nullopt;
    return JsonNode(*it, path_.empty() ? std::string(key) : path_ + "." + std::string(key));
}

JsonNode JsonNode::at(std::string_view key) const {
    const std::optional<JsonNode> node = find(key);
    if (!node) refuse("key '{}' is missing", key);
    return *node;
}

std::vector<JsonNode> JsonNode::elements() const {
    if (!value_->is_array()) refuse("must be an array");
    std::vector<JsonNode> nodes;
    nodes.reserve(value_->size());
    for (size_t i = 0; i < value_->size(); ++i) {
        nodes.emplace_back((*value_)[i], fmt::format("{}[{}]", path_, i));
    }
    return nodes;
}

const std::string& JsonNode::string() const {
    if (!value_->is_string()) refuse("must be a string");
    return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
    if (!value_->is_boolean()) refuse("must be true or false");
    return value_->get<bool>();
}

int64_t JsonNode::integer() const {
    const bool fits = value_->is_number_integer() &&
                      (!value_->is_number_unsigned() || value_->get<uint64_t>() <= uint64_t{INT64_MAX});
    if (!fits) refuse("must be an integer");
    return value_->get<int64_t>();
}

char32_t JsonNode::character() const {
    const std::string& text = string();
    size_t pos = 0;
    if (text.empty() || utf8::length(text[0]) != text.size()) refuse("must be a single character");
    return utf8::next(text, pos);
}

}  // namespace mixserve::text
