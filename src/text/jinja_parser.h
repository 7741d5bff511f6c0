#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace mixserve::text::jinja {

/// Reads a template, with the grammar of jinja2's parser. Raises SyntaxError.
Template parse_template(std::string source);

/// Recursive descent over the tokens. The expressions are in jinja_parser_expr.cpp, the statements in
/// jinja_parser_stmt.cpp.
class Parser {
  public:
    explicit Parser(Template& out);
    void parse();

  private:
    /// Nesting of expressions and statements, so that no source overflows the stack.
    class Nesting;
    static constexpr int max_nesting = 300;
    static constexpr int max_tree_depth = 300;

    using Words = std::initializer_list<std::string_view>;

    // tokens
    const Token& current() const { return tokens_[at_]; }
    const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
    Token take();
    bool skip_op(std::string_view symbol);
    bool skip_name(std::string_view word);
    Token expect_op(std::string_view symbol);
    Token expect_name();
    void expect_kind(TokenKind kind);
    [[noreturn]] void fail(const std::string& cause) const;
    [[noreturn]] void fail_at(uint32_t offset, const std::string& cause) const;

    int intern(std::string_view name);
    /// A use of a variable: macros have `caller`, `varargs` and `kwargs` only where they use them.
    int use_name(std::string_view name);

    template <class Node>
    ExprPtr make(uint32_t offset, Node node);

    // expressions, loosest first
    ExprPtr expression(bool with_condition = true);
    ExprPtr conditional();
    ExprPtr logical_or();
    ExprPtr logical_and();
    ExprPtr logical_not();
    ExprPtr comparison();
    ExprPtr sum();
    ExprPtr concat();
    ExprPtr product();
    ExprPtr power();
    ExprPtr unary(bool with_filter = true);
    ExprPtr primary();
    ExprPtr postfix(ExprPtr expr);
    ExprPtr filters_and_tests(ExprPtr expr);
    ExprPtr subscript(ExprPtr object);
    ExprPtr call(ExprPtr callee);
    ExprPtr filter(ExprPtr input);
    ExprPtr filter_chain(ExprPtr input);
    ExprPtr test(ExprPtr input);
    ExprPtr tuple(bool with_condition, bool parenthesised, std::string_view end_word = {});
    ExprPtr list();
    ExprPtr dict();
    CallArgs call_args();

    // statements
    Body body_until(Words end_words, std::string_view tag, uint32_t opened_at);
    Stmt statement();
    Stmt parse_if(uint32_t offset);
    Stmt parse_for(uint32_t offset);
    Stmt parse_set(uint32_t offset);
    Stmt parse_macro(uint32_t offset);
    Stmt parse_call_block(uint32_t offset);
    Stmt parse_filter_block(uint32_t offset);
    Stmt parse_with(uint32_t offset);
    Stmt parse_block(uint32_t offset);
    Stmt parse_print(uint32_t offset);
    void signature(node::Macro& macro);
    void macro_body(node::Macro& macro, Words end_words, std::string_view tag, uint32_t opened_at);
    Target target(bool with_namespace, std::string_view end_word = {});
    Target target_item(bool with_namespace);
    [[noreturn]] void fail_unknown_tag(const Token& token) const;

    struct OpenBlock {
        std::string_view tag;
        Words end_words;
        uint32_t offset;
    };
    struct MacroUses {
        bool caller = false, varargs = false, kwargs = false;
    };

    Template& out_;
    std::vector<Token> tokens_;
    size_t at_ = 0;
    std::unordered_map<std::string, int> ids_;
    std::vector<OpenBlock> open_;
    std::vector<MacroUses> macros_;
    int nesting_ = 0;
    int loops_ = 0;          // around this place, up to the next macro: where break may stand
    int enclosing_for_ = 0;  // all of them
    int soft_ = 0;           // inside of an if: an unknown filter is an error only when it is reached
};

class Parser::Nesting {
  public:
    explicit Nesting(Parser& parser) : parser_(parser) {
        if (++parser_.nesting_ > max_nesting) parser_.fail("the template nests too deep");
    }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

  private:
    Parser& parser_;
};

}  // namespace mixserve::text::jinja
