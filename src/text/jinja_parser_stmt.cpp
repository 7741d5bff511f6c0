#include <algorithm>

#include "text/jinja_builtins.h"
#include "text/jinja_parser.h"

namespace mixserve::text::jinja {

Template parse_template(std::string source) {
    Template out;
    out.source = std::move(source);
    Parser(out).parse();
    return out;
}

Parser::Parser(Template& out) : out_(out), tokens_(tokenize(out.source)) {
    out_.known = {intern("loop"), intern("caller"), intern("varargs"), intern("kwargs")};
}

void Parser::parse() {
    out_.body = body_until({}, {}, 0);
}

void Parser::fail(const std::string& cause) const {
    fail_at(current().offset, cause);
}

void Parser::fail_at(uint32_t offset, const std::string& cause) const {
    throw SyntaxError(cause, offset);
}

Token Parser::take() {
    Token token = current();
    if (token.kind != TokenKind::end) ++at_;
    return token;
}

bool Parser::skip_op(std::string_view symbol) {
    if (!current().is_op(symbol)) return false;
    ++at_;
    return true;
}

bool Parser::skip_name(std::string_view word) {
    if (!current().is_name(word)) return false;
    ++at_;
    return true;
}

Token Parser::expect_op(std::string_view symbol) {
    if (current().kind == TokenKind::end)
        fail(fmt::format("unexpected end of template, expected '{}'.", symbol));
    if (!current().is_op(symbol))
        fail(fmt::format("expected token '{}', got '{}'", symbol, current().describe()));
    return take();
}

Token Parser::expect_name() {
    if (current().kind != TokenKind::name)
        fail(fmt::format("expected token 'name', got '{}'", current().describe()));
    return take();
}

void Parser::expect_kind(TokenKind kind) {
    if (current().kind == kind) {
        take();
        return;
    }
    const std::string expected = Token{kind, {}, {}, 0}.describe();
    if (current().kind == TokenKind::end)
        fail(fmt::format("unexpected end of template, expected '{}'.", expected));
    fail(fmt::format("expected token '{}', got '{}'", expected, current().describe()));
}

int Parser::intern(std::string_view name) {
    const auto [entry, is_new] = ids_.emplace(std::string(name), static_cast<int>(out_.names.size()));
    if (is_new) out_.names.emplace_back(name);
    return entry->second;
}

int Parser::use_name(std::string_view name) {
    for (MacroUses& macro : macros_) {
        macro.caller |= name == "caller";
        macro.varargs |= name == "varargs";
        macro.kwargs |= name == "kwargs";
    }
    return intern(name);
}

namespace {

std::string quoted(std::initializer_list<std::string_view> words) {
    std::string out;
    for (const std::string_view word : words)
        out += fmt::format("{}'{}'", out.empty() ? "" : " or ", word);
    return out;
}

constexpr std::string_view statements[] = {"for",  "if",     "block", "print",    "macro",      "set", "with",
                                           "call", "filter", "break", "continue", "generation", "raw"};
constexpr std::string_view end_tags[] = {"elif",      "else",     "endif",        "endfor",
                                         "endmacro",  "endset",   "endwith",      "endcall",
                                         "endfilter", "endblock", "endgeneration"};

}  // namespace

/// Everything up to one of the end words of this block, which stays the current token.
Body Parser::body_until(Words end_words, std::string_view tag, uint32_t opened_at) {
    const Nesting nesting(*this);
    if (!tag.empty()) {
        skip_op(":");
        expect_kind(TokenKind::block_end);
    }
    open_.push_back({tag, end_words, opened_at});
    Body body;
    while (current().kind != TokenKind::end) {
        const Token token = take();
        if (token.kind == TokenKind::data) {
            body.push_back({token.offset, node::Text{token.text}});
        } else if (token.kind == TokenKind::variable_begin) {
            node::Print print;
            print.exprs.push_back(tuple(true, false));
            expect_kind(TokenKind::variable_end);
            body.push_back({token.offset, std::move(print)});
        } else {
            const bool at_end = std::any_of(end_words.begin(), end_words.end(),
                                            [this](auto word) { return current().is_name(word); });
            if (at_end) {
                open_.pop_back();
                return body;
            }
            body.push_back(statement());
            expect_kind(TokenKind::block_end);
        }
    }
    if (!tag.empty()) {
        fail_at(opened_at, fmt::format("Unexpected end of template. The '{}' that starts here needs {}.", tag,
                                       quoted(end_words)));
    }
    open_.pop_back();
    return body;
}

Stmt Parser::statement() {
    const Nesting nesting(*this);
    const Token token = current();
    if (token.kind != TokenKind::name) fail("tag name expected");
    const uint32_t offset = token.offset;
    take();
    const std::string& tag = token.text;
    if (tag == "if") return parse_if(offset);
    if (tag == "for") return parse_for(offset);
    if (tag == "set") return parse_set(offset);
    if (tag == "macro") return parse_macro(offset);
    if (tag == "call") return parse_call_block(offset);
    if (tag == "filter") return parse_filter_block(offset);
    if (tag == "with") return parse_with(offset);
    if (tag == "block") return parse_block(offset);
    if (tag == "print") return parse_print(offset);
    if (tag == "generation") {
        const int loops = std::exchange(loops_, 0);
        node::Scoped scoped{false, body_until({"endgeneration"}, "generation", offset)};
        loops_ = loops;
        take();
        return {offset, std::move(scoped)};
    }
    if (tag == "break" || tag == "continue") {
        if (loops_ == 0) fail_at(offset, fmt::format("'{}' outside loop", tag));
        if (tag == "break") return {offset, node::Break{}};
        return {offset, node::Continue{}};
    }
    fail_unknown_tag(token);
}

void Parser::fail_unknown_tag(const Token& token) const {
    const std::string& tag = token.text;
    if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") {
        fail_at(token.offset, fmt::format("'{}' needs another template, and a chat template is alone", tag));
    }
    if (tag == "autoescape")
        fail_at(token.offset, "'autoescape' is not supported: chat templates are not HTML");
    const bool ends = std::find(std::begin(end_tags), std::end(end_tags), tag) != std::end(end_tags);
    std::string text =
        ends ? fmt::format("'{}' closes nothing that is open here.", tag)
             : fmt::format("Encountered unknown tag '{}'{}.", tag, did_you_mean(tag, statements));
    if (open_.size() > 1) {
        text += fmt::format(" The innermost block that needs to be closed is '{}', by {}.", open_.back().tag,
                            quoted(open_.back().end_words));
    }
    fail_at(token.offset, text);
}

Stmt Parser::parse_if(uint32_t offset) {
    node::If out;
    ++soft_;
    while (true) {
        ExprPtr condition = tuple(false, false);
        Body body = body_until({"elif", "else", "endif"}, "if", offset);
        out.branches.emplace_back(std::move(condition), std::move(body));
        const Token end = take();
        if (end.text == "elif") continue;
        if (end.text == "else") {
            out.otherwise = body_until({"endif"}, "if", offset);
            take();
        }
        break;
    }
    --soft_;
    return {offset, std::move(out)};
}

Stmt Parser::parse_for(uint32_t offset) {
    node::For out;
    ++enclosing_for_;
    out.target = target(false, "in");
    if (!skip_name("in")) fail(fmt::format("expected token 'in', got '{}'", current().describe()));
    out.items = tuple(false, false, "recursive");
    if (skip_name("if")) out.filter = expression();
    out.recursive = skip_name("recursive");
    ++loops_;
    out.body = body_until({"endfor", "else"}, "for", offset);
    --loops_;
    if (take().text == "else") {
        out.otherwise = body_until({"endfor"}, "for", offset);
        take();
    }
    --enclosing_for_;
    return {offset, std::move(out)};
}

Stmt Parser::parse_set(uint32_t offset) {
    Target left = target(true);
    if (skip_op("=")) return {offset, node::Set{std::move(left), tuple(true, false)}};
    node::SetBlock out;
    out.target = std::move(left);
    out.filter = filter_chain(nullptr);
    const int loops = std::exchange(loops_, 0);
    out.body = body_until({"endset"}, "set", offset);
    loops_ = loops;
    take();
    return {offset, std::move(out)};
}

void Parser::signature(node::Macro& macro) {
    expect_op("(");
    while (!current().is_op(")")) {
        if (!macro.parameters.empty()) expect_op(",");
        const Token name = expect_name();
        macro.parameters.push_back(intern(name.text));
        macro.declares_caller |= name.text == "caller";
        if (skip_op("="))
            macro.defaults.push_back(expression());
        else if (!macro.defaults.empty())
            fail_at(name.offset, "non-default argument follows default argument");
    }
    expect_op(")");
}

void Parser::macro_body(node::Macro& macro, Words end_words, std::string_view tag, uint32_t opened_at) {
    const int loops = std::exchange(loops_, 0);
    macros_.emplace_back();
    macro.body = body_until(end_words, tag, opened_at);
    const auto declared = [&](int name) {
        return std::find(macro.parameters.begin(), macro.parameters.end(), name) != macro.parameters.end();
    };
    macro.uses_caller = macros_.back().caller && !macro.declares_caller;
    macro.uses_varargs = macros_.back().varargs && !declared(out_.known.varargs);
    macro.uses_kwargs = macros_.back().kwargs && !declared(out_.known.kwargs);
    macros_.pop_back();
    loops_ = loops;
    take();
}

Stmt Parser::parse_macro(uint32_t offset) {
    node::Macro out{};
    out.name = expect_name().text;
    out.name_id = intern(out.name);
    signature(out);
    macro_body(out, {"endmacro"}, "macro", offset);
    return {offset, std::move(out)};
}

Stmt Parser::parse_call_block(uint32_t offset) {
    node::CallBlock out{};
    out.caller.name = "caller";
    out.caller.name_id = out_.known.caller;
    if (current().is_op("(")) signature(out.caller);
    out.call = expression();
    if (!std::holds_alternative<node::Call>(out.call->node)) fail_at(offset, "expected call");
    macro_body(out.caller, {"endcall"}, "call", offset);
    return {offset, std::move(out)};
}

Stmt Parser::parse_filter_block(uint32_t offset) {
    node::FilterBlock out;
    out.filter = filter_chain(filter(nullptr));
    const int loops = std::exchange(loops_, 0);
    out.body = body_until({"endfilter"}, "filter", offset);
    loops_ = loops;
    take();
    return {offset, std::move(out)};
}

Stmt Parser::parse_with(uint32_t offset) {
    node::With out;
    while (current().kind != TokenKind::block_end && !current().is_op(":")) {
        if (!out.variables.empty()) expect_op(",");
        Target left = target_item(false);
        expect_op("=");
        out.variables.emplace_back(std::move(left), expression());
    }
    out.body = body_until({"endwith"}, "with", offset);
    take();
    return {offset, std::move(out)};
}

Stmt Parser::parse_block(uint32_t offset) {
    const Token name = expect_name();
    const bool scoped = skip_name("scoped");
    skip_name("required");
    const int loops = std::exchange(loops_, 0);
    node::Scoped out{!scoped, body_until({"endblock"}, "block", offset)};
    loops_ = loops;
    take();
    skip_name(name.text);
    return {offset, std::move(out)};
}

Stmt Parser::parse_print(uint32_t offset) {
    node::Print out;
    while (current().kind != TokenKind::block_end) {
        if (!out.exprs.empty()) expect_op(",");
        out.exprs.push_back(expression());
    }
    return {offset, std::move(out)};
}

Target Parser::target(bool with_namespace, std::string_view end_word) {
    Target first = target_item(with_namespace);
    if (!current().is_op(",")) return first;
    Target out;
    out.unpack = true;
    out.parts.push_back(std::move(first));
    const auto at_end = [&] {
        return current().is_op("=") || current().is_op(")") || current().kind == TokenKind::block_end ||
               (!end_word.empty() && current().is_name(end_word));
    };
    while (skip_op(",") && !at_end())
        out.parts.push_back(target_item(with_namespace));
    return out;
}

Target Parser::target_item(bool with_namespace) {
    const Nesting nesting(*this);
    if (skip_op("(")) {
        Target inside = target(with_namespace);
        expect_op(")");
        return inside;
    }
    const Token token = current();
    if (token.kind != TokenKind::name) fail(fmt::format("can't assign to '{}'", token.describe()));
    take();
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
        if (token.text == constant) fail_at(token.offset, fmt::format("can't assign to '{}'", token.text));
    }
    Target out;
    if (with_namespace && skip_op(".")) {
        out.name = use_name(token.text);
        out.attribute = expect_name().text;
        return out;
    }
    if (token.text == "loop" && enclosing_for_ > 0) {
        fail_at(token.offset, "Can't assign to special loop variable in for-loop target");
    }
    out.name = intern(token.text);
    return out;
}

}  // namespace mixserve::text::jinja
