#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

namespace mixserve {

using json = nlohmann::json;
/// Keeps the order of keys, for what people read and for templates that walk over objects.
using ordered_json = nlohmann::ordered_json;

/// The candidate nearest to `word` by edit distance, or "" when none is near. For "did you mean" in errors.
std::string nearest_name(std::string_view word, std::span<const std::string_view> candidates);

/// `; did you mean 'x'?`, or "" when no candidate is near.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace mixserve
