#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace mixserve::io {

/// Counts errors by cause: texts that differ in numbers and quoted parts only are one. Keeps a bounded number
/// of causes; what comes after that is counted as "other causes".
class ErrorCauses {
  public:
    struct Cause {
        std::string text;  // with N for numbers and '...' for what was quoted
        int64_t count = 0;
        std::string example;     // the first text as it was
        std::string example_id;  // of its row
    };
    void add(const std::string& text, const std::string& id);
    /// The most frequent first.
    std::vector<Cause> sorted() const;

  private:
    std::unordered_map<std::string, Cause> causes_;
};

}  // namespace mixserve::io
