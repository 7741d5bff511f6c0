#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace mixserve::text {

/// A value inside tokenizer.json and the path that leads to it, so that every error names its key.
class JsonNode {
  public:
    JsonNode(const json& value, std::string path) : value_(&value), path_(std::move(path)) {}

    const json& value() const { return *value_; }
    const std::string& path() const { return path_; }

    /// UsageError if this is not an object, or has a key that is neither listed nor null.
    void allow_only(std::initializer_list<std::string_view> keys) const;
    /// nullopt: absent or null.
    std::optional<JsonNode> find(std::string_view key) const;
    JsonNode at(std::string_view key) const;
    /// Of an array.
    std::vector<JsonNode> elements() const;

    const std::string& string() const;
    bool boolean() const;
    int64_t integer() const;
    /// A string of one code point.
    char32_t character() const;

    const std::string& string(std::string_view key) const { return at(key).string(); }
    bool boolean(std::string_view key, bool absent) const {
        const std::optional<JsonNode> node = find(key);
        return node ? node->boolean() : absent;
    }

    template <class... Args>
    [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
        fail_usage("tokenizer.json: {}{}{}", path_, path_.empty() ? "" : ": ",
                   fmt::format(format, std::forward<Args>(args)...));
    }

  private:
    const json* value_;
    std::string path_;
};

/// Sequences nest at most this deep.
inline constexpr int max_sequence_depth = 16;

}  // namespace mixserve::text
