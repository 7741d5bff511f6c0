#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace mixserve::io {

/// A value in a user's JSON is not what its key wants. The text names key and value.
class ValueError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Each: the value of `key` as the type, or ValueError.
bool bool_of(const ordered_json& value, std::string_view key);
double number_of(const ordered_json& value, std::string_view key);
/// Also 5.0; not 5.5, nor what exceeds 64 bits.
int64_t integer_of(const ordered_json& value, std::string_view key);
uint64_t unsigned_of(const ordered_json& value, std::string_view key);
const std::string& text_of(const ordered_json& value, std::string_view key);
const ordered_json& object_of(const ordered_json& value, std::string_view key);
/// Token ids from 0 to 2^31 - 1.
std::vector<int32_t> token_ids_of(const ordered_json& value, std::string_view key);

/// "a text ('hot')", "null", "a list": what a value is, for messages.
std::string described(const ordered_json& value);

}  // namespace mixserve::io
