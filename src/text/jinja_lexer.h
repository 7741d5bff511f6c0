#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace mixserve::text::jinja {

/// The source is no template; `offset` says where in it (after normalize_source).
class SyntaxError : public std::runtime_error {
  public:
    SyntaxError(const std::string& cause, uint32_t at) : std::runtime_error(cause), offset(at) {}
    uint32_t offset;
};

enum class TokenKind {
    data,
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    floating,
    op,
    end
};

struct Token {
    TokenKind kind = TokenKind::end;
    std::string text;  // the value of data, names and strings; the operator itself
    Value number;
    uint32_t offset = 0;

    bool is_op(std::string_view symbol) const { return kind == TokenKind::op && text == symbol; }
    bool is_name(std::string_view word) const { return kind == TokenKind::name && text == word; }
    /// For messages: what stands here.
    std::string describe() const;
};

/// Line ends become \n, and one at the very end is dropped (keep_trailing_newline is off).
std::string normalize_source(std::string_view source);

/// The tokens of a normalized source, with trim_blocks and lstrip_blocks; comments are dropped. The last is
/// `end`.
std::vector<Token> tokenize(const std::string& source);

}  // namespace mixserve::text::jinja
