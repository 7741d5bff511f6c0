#pragma once

#include <optional>
#include <vector>

#include "text/jinja_interpreter.h"

namespace mixserve::text::jinja {

/// The `attribute` of filters: "a.b.0" walks into a value, a number takes an item, None the value itself.
class AttributePath {
  public:
    explicit AttributePath(const Value& attribute, std::optional<Value> otherwise = std::nullopt);
    Value get(Interpreter& in, Value item) const;

  private:
    std::vector<Value> parts_;
    std::optional<Value> otherwise_;  // for what is not there
};

}  // namespace mixserve::text::jinja
