#include <fstream>
#include <random>

#include "support/test_support.h"
#include "text/chat_template.h"

namespace mixserve::text {
namespace {

using Words = std::vector<std::string_view>;

/// Parses and renders; anything but a text or an Error ends the test (a crash, a hang, another exception).
void feed(const std::string& source, const ordered_json& context, int* n_rendered) {
    try {
        const ChatTemplate parsed = ChatTemplate::parse(source);
        parsed.render(context, 1'767'355'200);
        ++*n_rendered;
    } catch (const Error&) {
    }
}

// clang-format off
const Words words = {
    "{{", "}}", "{%", "%}", "{{-", "-}}", "{%-", "-%}", "{#", "#}", "{% if ", "{% endif %}", "{% for ",
    "{% endfor %}", "{% else %}", "{% elif ", "{% set ", "{% endset %}", "{% macro ", "{% endmacro %}",
    "{% call ", "{% endcall %}", "{% raw %}", "{% endraw %}", "{% filter ", "{% endfilter %}", "{% with ",
    "{% endwith %}", "{% generation %}", "{% endgeneration %}", "{% break %}", "{% continue %}",
    "{% block b %}", "{% endblock %}", "x", "m", "messages", "loop", "namespace", "range(3)", "ns", "ns.x",
    "=", "in", "not", "and", "or", "is", "if", "else", "recursive", "defined", "string", "mapping", "(",
    ")", "[", "]", "{", "}", ",", ".", ":", "|", "~", "+", "-", "*", "/", "//", "%", "**", "==", "<", ">=",
    "1", "0", "-1", "2.5", "1e9", "'a'", "\"\\n\"", "'%s'", "'{}'", "true", "none", "tojson", "upper",
    "join", "map", "select", "list", "sort", "first", "length", "trim", "items", "default",
    "replace('a','b')", "format", "split(' ')", "strip()", "get('role')", "role", "content", "caller()",
    "kwargs", "varargs", " ", "\n", "é", "✓", "raise_exception", "loop.last", "loop(x)", "cycler(1,2)",
    "loop.changed(x)", "groupby('role')", "[::-1]", "[1:]", "indent", "int", "round", "tojson(indent=2)"};
// clang-format on

/// One small damage: bytes dropped, doubled, swapped, or a word put in.
std::string mutate(std::string source, std::mt19937& random) {
    const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
    const size_t n_changes = 1 + below(4);
    for (size_t i = 0; i < n_changes && !source.empty(); ++i) {
        const size_t at = below(source.size());
        const size_t length = std::min(source.size() - at, 1 + below(below(4) == 0 ? 200 : 8));
        switch (below(5)) {
            case 0:
                source.erase(at, length);
                break;
            case 1:
                source.insert(below(source.size() + 1), source.substr(at, length));
                break;
            case 2:
                source[at] = static_cast<char>(below(256));
                break;
            case 3:
                source.insert(at, words[below(words.size())]);
                break;
            default:
                source.replace(at, length, words[below(words.size())]);
                break;
        }
    }
    return source;
}

const char* const small_context =
    R"({"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": null}],
    "x": [3, "a", {"k": [1.5, true]}], "add_generation_prompt": true, "bos_token": "<s>"})";

TEST(FuzzChatTemplate, DamagedPublishedTemplates) {
    MIXSERVE_NEEDS_SHARED(folder, "chat-templates");
    std::mt19937 random(20261124);
    int n_rendered = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string source = test::read_file(entry.path() / "chat_template.jinja");
        std::vector<ordered_json> contexts;
        std::ifstream lines(entry.path() / "golden.jsonl");
        for (std::string line; std::getline(lines, line);)
            contexts.push_back(ordered_json::parse(line)["context"]);
        for (int i = 0; i < 250; ++i)
            feed(mutate(source, random), contexts[static_cast<size_t>(i) % contexts.size()], &n_rendered);
    }
    EXPECT_GT(n_rendered, 100) << "the damage leaves nothing to render, so that nothing is tested";
}

TEST(FuzzChatTemplate, SoupOfWords) {
    std::mt19937 random(7);
    const ordered_json context = ordered_json::parse(small_context);
    int n_rendered = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string source;
        const size_t n_words = 1 + std::uniform_int_distribution<size_t>(0, 24)(random);
        for (size_t k = 0; k < n_words; ++k)
            source += words[std::uniform_int_distribution<size_t>(0, words.size() - 1)(random)];
        feed(source, context, &n_rendered);
    }
    EXPECT_GT(n_rendered, 100);
}

// clang-format off
const Words values = {
    "x", "messages", "1", "-7", "2.5", "1e17", "'a b'", "'é✓'", "''", "[]", "{}", "(1, 2)", "none", "true",
    "range(5)", "nope", "{'k': 1}", "'%s-%d'", "'{}{:>9}'", "'\\n\\n'", "namespace(a=1)", "cycler(1, 2)",
    "170141183460469231731687303715884105727"};
// clang-format on
const Words operators = {"+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"};
// clang-format off
const Words filters = {
    "upper", "title", "length", "first", "last", "list", "join(',')", "sort", "reverse", "sum", "min",
    "unique|list", "int", "float", "abs", "round(2)", "string", "tojson(indent=1)", "map('string')|list",
    "select|list", "items|list", "dictsort", "batch(2)|list", "slice(3)|list", "replace('a', 'b')",
    "indent", "e", "safe", "wordcount", "urlencode", "groupby('role')", "truncate(3)", "center(9)",
    "format(1, 2)", "default(1)", "round(-2, 'ceil')", "capitalize"};
const Words methods = {
    "upper()", "split()", "rsplit('a', 1)", "strip('ab')", "items()", "get('k')", "join(['a'])",
    "format(1, 2)", "count('a')", "index(1)", "splitlines()", "zfill(9)", "partition(' ')", "k", "next()",
    "title()", "find('✓')"};
// clang-format on
const Words subscripts = {"0", "-1", "1:", "::-1", ":-2", "5:1:-2", "'k'", "::9223372036854775807"};
const Words tests = {"defined", "string",  "odd",   "iterable",      "sequence",
                     "eq(1)",   "in([1])", "lower", "divisibleby(2)"};

/// A well-formed expression, so that the evaluator is reached more often than by soup.
std::string expression(std::mt19937& random, int depth) {
    const auto pick = [&](const Words& from) {
        return from[std::uniform_int_distribution<size_t>(0, from.size() - 1)(random)];
    };
    if (depth == 0) return std::string(pick(values));
    const std::string a = expression(random, depth - 1);
    switch (std::uniform_int_distribution<int>(0, 6)(random)) {
        case 0:
            return fmt::format("({} {} {})", a, pick(operators), expression(random, depth - 1));
        case 1:
            return fmt::format("{}|{}", a, pick(filters));
        case 2:
            return fmt::format("({}).{}", a, pick(methods));
        case 3:
            return fmt::format("({})[{}]", a, pick(subscripts));
        case 4:
            return fmt::format("({} if {} else 'x')", a, expression(random, depth - 1));
        case 5:
            return fmt::format("[{}, {}]", a, expression(random, depth - 1));
        default:
            return fmt::format("({} is {})", a, pick(tests));
    }
}

TEST(FuzzChatTemplate, RandomExpressions) {
    std::mt19937 random(42);
    const ordered_json context = ordered_json::parse(small_context);
    int n_rendered = 0;
    for (int i = 0; i < 20000; ++i)
        feed(fmt::format("{{{{ {} }}}}", expression(random, i % 5)), context, &n_rendered);
    EXPECT_GT(n_rendered, 5000);
}

}  // namespace
}  // namespace mixserve::text
