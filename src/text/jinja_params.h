#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace mixserve::text::jinja {

/// The arguments of a call, put in the order of its parameters. Raises for unknown, doubled, missing and too
/// many ones.
class Params {
  public:
    Params(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
           size_t n_required = 0);

    /// nullptr: not given
    const Value* operator[](size_t i) const { return values_[i]; }
    Value get(size_t i, const Value& otherwise = {}) const { return values_[i] ? *values_[i] : otherwise; }
    bool flag(size_t i, bool otherwise) const { return values_[i] ? truthy(*values_[i]) : otherwise; }
    /// Raises for what is no int.
    Int integer(size_t i, Int otherwise) const;
    /// Raises for what is no string.
    const std::string& string(size_t i, const std::string& otherwise) const;
    bool given(size_t i) const { return values_[i] && !values_[i]->is_none(); }

  private:
    std::string function_;
    std::vector<std::string_view> names_;
    std::vector<const Value*> values_;
};

}  // namespace mixserve::text::jinja
