// Mutated lines of prompts: whatever comes in, each line gives a request or an error row, and nothing else
// happens.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/json.h"
#include "base/utf8.h"
#include "io/prompt_line.h"
#include "io/prompts.h"
#include "io/rows.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

const std::vector<std::string> seeds{
    R"({"id": "a", "prompt": "To be \u00e9\n", "max_tokens": 40, "temperature": 0.5, "stop": ["x", "\n\n"], "n": 2})",
    R"({"id": 7, "prompt": [1, 2, 3], "logprobs": 5, "stop_token_ids": [4], "ignore_eos": true, "seed": 1})",
    R"({"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"a": [1, {}]}, "logprobs": true})",
    R"({"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "x"}})",
    R"({"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user",
        "content": [{"type": "text", "text": "Hi"}]}], "top_p": 0.9, "tools": [], "response_format": {"type": "text"}}})",
};
const std::vector<std::string> pieces{"null",
                                      "true",
                                      "-1",
                                      "1e999",
                                      "1e-400",
                                      "NaN",
                                      "99999999999999999999",
                                      "0.1",
                                      "\"\"",
                                      "[]",
                                      "{}",
                                      "[[",
                                      "{\"",
                                      "\\",
                                      "\\u0000",
                                      "\\ud800",
                                      "\xFF",
                                      "\xC3",
                                      std::string(1, '\0'),
                                      "\"prompt\"",
                                      "\"messages\"",
                                      "\"body\"",
                                      "\"n\"",
                                      ",",
                                      ":",
                                      "}",
                                      "]",
                                      "\"id\": {}",
                                      "\r",
                                      "\t",
                                      "\xEF\xBB\xBF",
                                      std::string(300, '['),
                                      std::string(70, 'k')};

class Mutator {
  public:
    explicit Mutator(uint32_t seed) : random_(seed) {}

    std::string next() {
        std::string line = seeds[below(seeds.size())];
        for (size_t n = below(3); n > 0; --n)
            mutate(line);
        return line;
    }

  private:
    size_t below(size_t n) { return random_() % n; }

    void mutate(std::string& line) {
        if (line.empty()) return;
        const size_t at = below(line.size());
        switch (below(6)) {
            case 0:
                line[at] = static_cast<char>(below(256));
                break;
            case 1:
                line.erase(at, 1 + below(8));
                break;
            case 2:
                line.insert(at, pieces[below(pieces.size())]);
                break;
            case 3:
                line.resize(at);
                break;
            case 4:
                line.insert(at, line.substr(below(line.size()), below(30)));
                break;
            default:
                replace_value(line, at);
        }
    }

    // Puts a piece in place of what follows a colon or a comma.
    void replace_value(std::string& line, size_t at) {
        const size_t from = line.find_first_of(":,", at);
        if (from == std::string::npos) return;
        const size_t to = std::min(line.find_first_of(",}]", from + 1), line.size());
        line.replace(from + 1, to - from - 1, pieces[below(pieces.size())]);
    }

    std::mt19937 random_;
};

void expect_sound(const Request& request, int64_t line, const PromptLimits& limits) {
    ASSERT_EQ(request.line, line);
    ASSERT_FALSE(request.id.empty());
    const std::string row = row_of(result_of(request), {"m", 0});
    ASSERT_FALSE(first_invalid_utf8(row));
    ASSERT_TRUE(ordered_json::parse(row).is_object());
    if (request.error) {
        ASSERT_TRUE(request.error->starts_with("line " + std::to_string(line) + ": "));
        ASSERT_LT(request.error->size(), 600U);
        return;
    }
    ASSERT_FALSE(problem_of(request.sampling));
    ASSERT_FALSE(first_invalid_utf8(request.prompt));
    ASSERT_TRUE(is_chat(request.form) ? !request.messages.empty()
                                      : request.prompt.empty() != request.prompt_ids.empty());
    for (const int32_t id : request.prompt_ids)
        ASSERT_TRUE(id >= 0 && id < *limits.vocab_size);
    const Request back = unpack_request(pack(request));
    ASSERT_EQ(back.messages, request.messages);
    ASSERT_EQ(back.sampling, request.sampling);
}

TEST(FuzzPrompts, LinesGiveRequestsOrErrorRows) {
    PromptLimits limits;
    limits.vocab_size = 1000;
    Mutator mutator(5);
    int n_good = 0;
    constexpr int n_lines = 60'000;
    for (int i = 1; i <= n_lines; ++i) {
        const std::string line = mutator.next();
        const Request request = parse_json_line(line, i, {}, limits);
        expect_sound(request, i, limits);
        if (HasFatalFailure()) FAIL() << line;
        n_good += !request.error;
    }
    // Both kinds were met often.
    EXPECT_GT(n_good, n_lines / 10);
    EXPECT_LT(n_good, n_lines / 2);
}

TEST(FuzzPrompts, FilesGiveARowALine) {
    PromptLimits limits;
    limits.vocab_size = 1000;
    limits.max_line_bytes = 400;
    Mutator mutator(6);
    const test::TemporaryFolder folder;
    for (int round = 0; round < 20; ++round) {
        std::string text;
        for (int i = 0; i < 200; ++i)
            text += mutator.next() + (i % 3 == 0 ? "\r\n" : "\n");
        for (const char* name : {"p.jsonl", "p.txt"}) {
            test::write_file(folder.file(name), text);
            PromptReader reader(folder.file(name), {}, limits);
            int64_t n_requests = 0;
            int64_t last_line = 0;
            while (const std::optional<Request> request = reader.next()) {
                ASSERT_GT(request->line, last_line);
                last_line = request->line;
                expect_sound(*request, request->line, limits);
                ASSERT_FALSE(HasFatalFailure()) << name << ", line " << last_line;
                ++n_requests;
            }
            EXPECT_EQ(n_requests + reader.n_blank(), reader.n_lines());
            EXPECT_EQ(reader.n_lines(), std::count(text.begin(), text.end(), '\n'));
            EXPECT_EQ(reader.bytes_read(), static_cast<int64_t>(text.size()));
        }
    }
}

}  // namespace
}  // namespace mixserve::io
