#include <gmock/gmock.h>

#include "base/error.h"
#include "io/prompt_line.h"
#include "io/prompts.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::string_literals;

std::vector<Request> read_all(const std::string& name, const std::string& text,
                              const SamplingDefaults& defaults = {}, const PromptLimits& limits = {}) {
    const test::TemporaryFolder folder;
    test::write_file(folder.file(name), text);
    PromptReader reader(folder.file(name), defaults, limits);
    std::vector<Request> requests;
    while (std::optional<Request> request = reader.next())
        requests.push_back(std::move(*request));
    EXPECT_EQ(static_cast<int64_t>(requests.size()), scan_input(folder.file(name)).n_prompts);
    return requests;
}

Request parse(const std::string& line, const PromptLimits& limits = {}) {
    return parse_json_line(line, 7, {}, limits);
}

TEST(Prompts, CompletionWithEveryKey) {
    const Request r = parse(
        R"({"id": "a", "prompt": "Hi", "max_tokens": 9, "min_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
            "min_p": 0.05, "presence_penalty": -1, "frequency_penalty": 1.5, "repetition_penalty": 1.1, "seed": 3,
            "n": 2, "stop": ["x", "yz"], "stop_token_ids": [5, 6], "include_stop_str_in_output": true,
            "ignore_eos": true, "logprobs": 4, "prompt_logprobs": 0})");
    ASSERT_FALSE(r.error) << *r.error;
    EXPECT_EQ(r.line, 7);
    EXPECT_EQ(r.id, "a");
    EXPECT_FALSE(r.id_is_number);
    EXPECT_EQ(r.form, RequestForm::completion);
    EXPECT_EQ(r.prompt, "Hi");
    SamplingParams wanted;
    wanted.max_tokens = 9;
    wanted.min_tokens = 2;
    wanted.temperature = 0.5;
    wanted.top_p = 0.9;
    wanted.top_k = 40;
    wanted.min_p = 0.05;
    wanted.presence_penalty = -1;
    wanted.frequency_penalty = 1.5;
    wanted.repetition_penalty = 1.1;
    wanted.seed = 3;
    wanted.n = 2;
    wanted.stop = {"x", "yz"};
    wanted.stop_token_ids = {5, 6};
    wanted.include_stop_str_in_output = true;
    wanted.ignore_eos = true;
    wanted.logprobs = 4;
    wanted.prompt_logprobs = 0;
    EXPECT_EQ(r.sampling, wanted);
}

TEST(Prompts, ChatWithTemplateKeys) {
    const Request r = parse(
        R"({"id": 12, "messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": false,
            "chat_template_kwargs": {"enable_thinking": false}, "tools": [{"type": "function"}], "logprobs": true,
            "top_logprobs": 3, "stop": "!"})");
    ASSERT_FALSE(r.error) << *r.error;
    EXPECT_EQ(r.id, "12");
    EXPECT_TRUE(r.id_is_number);
    EXPECT_EQ(r.form, RequestForm::chat);
    EXPECT_EQ(r.messages.dump(), R"([{"role":"user","content":"Hi"}])");
    EXPECT_EQ(r.template_context.dump(), R"({"enable_thinking":false,"tools":[{"type":"function"}]})");
    EXPECT_FALSE(r.add_generation_prompt);
    EXPECT_EQ(r.sampling.logprobs, 3);
    EXPECT_EQ(r.sampling.max_tokens, no_token_limit);
    EXPECT_THAT(r.sampling.stop, ElementsAre("!"));
}

TEST(Prompts, OpenAiBatchLines) {
    const Request completion = parse(
        R"({"custom_id": "b1", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "user": "u",
            "stream": false, "prompt": [1, 2, 3], "max_completion_tokens": 5, "logprobs": 2, "stop": null, "best_of": 1,
            "echo": false, "suffix": null, "logit_bias": {}, "metadata": {"k": "v"}}})");
    ASSERT_FALSE(completion.error) << *completion.error;
    EXPECT_EQ(completion.form, RequestForm::batch_completion);
    EXPECT_EQ(completion.id, "b1");
    EXPECT_TRUE(completion.prompt_is_ids);
    EXPECT_THAT(completion.prompt_ids, ElementsAre(1, 2, 3));
    EXPECT_EQ(completion.sampling.max_tokens, 5);
    EXPECT_EQ(completion.sampling.logprobs, 2);

    const Request chat = parse(
        R"({"custom_id": "b2", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m",
            "messages": [{"role": "user", "content": "Hi"}], "logprobs": false, "response_format": {"type": "text"}}})");
    ASSERT_FALSE(chat.error) << *chat.error;
    EXPECT_EQ(chat.form, RequestForm::batch_chat);
    EXPECT_FALSE(chat.sampling.logprobs);
}

TEST(Prompts, DefaultsComeFromConfigAndForm) {
    SamplingDefaults defaults;
    defaults.params.temperature = 0.7;
    defaults.params.logprobs = 2;
    const Request plain = parse_json_line(R"({"prompt": "a"})", 1, defaults, {});
    EXPECT_EQ(plain.sampling.temperature, 0.7);
    EXPECT_EQ(plain.sampling.max_tokens, 16);
    EXPECT_EQ(plain.sampling.logprobs, 2);
    const Request own = parse_json_line(R"({"prompt": "a", "temperature": 0})", 1, defaults, {});
    EXPECT_EQ(own.sampling.temperature, 0);
    defaults.max_tokens = 99;
    EXPECT_EQ(parse_json_line(R"({"prompt": "a"})", 1, defaults, {}).sampling.max_tokens, 99);
    EXPECT_EQ(parse_text_line("a", 1, defaults).sampling.max_tokens, 99);
    EXPECT_EQ(parse_json_line(R"({"messages": [{"role": "user"}]})", 1, defaults, {}).sampling.max_tokens,
              99);
}

TEST(Prompts, GenerationConfig) {
    const GenerationConfig config = read_generation_config(
        R"({"temperature": 0.8, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05, "min_p": null,
            "do_sample": true, "eos_token_id": [0, 2], "max_new_tokens": 50, "num_beams": 4})");
    EXPECT_EQ(config.defaults.params.temperature, 0.8);
    EXPECT_EQ(config.defaults.params.top_p, 0.95);
    EXPECT_EQ(config.defaults.params.top_k, 20);
    EXPECT_EQ(config.defaults.params.repetition_penalty, 1.05);
    EXPECT_EQ(config.defaults.max_tokens, 50);
    EXPECT_THAT(config.eos_token_ids, ElementsAre(0, 2));
    EXPECT_EQ(
        read_generation_config(R"({"do_sample": false, "temperature": 0.6})").defaults.params.temperature, 0);
    EXPECT_THAT(read_generation_config(R"({"eos_token_id": 7})").eos_token_ids, ElementsAre(7));
    EXPECT_EQ(read_generation_config("").defaults.params, SamplingParams());
    for (const char* bad :
         {R"({"temperature": "hot"})", R"({"top_p": 7})", "[]", "{", R"({"eos_token_id": "x"})"})
        EXPECT_THROW(read_generation_config(bad), UsageError) << bad;
}

TEST(Prompts, FileShapes) {
    const std::string bom = "\xEF\xBB\xBF";
    const std::vector<Request> requests = read_all(
        "p.jsonl",
        bom + "{\"prompt\": \"a\"}\r\n\n  \t\r\n{\"prompt\": \"b\", \"id\": \"x\"}\n{\"prompt\": \"c\"}");
    ASSERT_EQ(requests.size(), 3U);
    EXPECT_EQ(requests[0].id, "1");
    EXPECT_TRUE(requests[0].id_is_number);
    EXPECT_EQ(requests[1].line, 4);
    EXPECT_EQ(requests[2].id, "5");
    for (const Request& request : requests)
        EXPECT_FALSE(request.error) << *request.error;

    const std::vector<Request> texts =
        read_all("p.txt", bom + "one\r\n\n\xFFtwo\nthr\xC3\xA9\x65\nnul\0!\n"s + " four ");
    ASSERT_EQ(texts.size(), 5U);
    EXPECT_EQ(texts[0].prompt, "one");
    EXPECT_THAT(*texts[1].error, HasSubstr("line 3: invalid UTF-8 at byte 1 (0xFF)"));
    EXPECT_EQ(texts[2].prompt, "thr\xC3\xA9\x65");
    EXPECT_THAT(*texts[3].error, HasSubstr("NUL"));
    EXPECT_EQ(texts[4].prompt, " four ");
    EXPECT_TRUE(read_all("p.jsonl", "").empty());
    EXPECT_TRUE(read_all("p.txt", "\n\r\n").empty());
}

TEST(Prompts, LongLines) {
    PromptLimits limits;
    limits.max_line_bytes = 100;
    const std::string longest = R"({"prompt": ")" + std::string(100 - 14, 'a') + R"("})";
    ASSERT_EQ(longest.size(), 100U);
    const std::vector<Request> requests = read_all(
        "p.jsonl", longest + "\n" + longest + " \n{\"prompt\": \"b\"}\n" + longest + " ", {}, limits);
    ASSERT_EQ(requests.size(), 4U);
    EXPECT_FALSE(requests[0].error) << *requests[0].error;
    EXPECT_THAT(*requests[1].error, HasSubstr("line 2: longer than 100 bytes"));
    EXPECT_EQ(requests[2].prompt, "b");
    EXPECT_THAT(*requests[3].error, HasSubstr("line 4: longer than 100 bytes"));

    // Lines over several of the reader's buffers.
    const std::string text(5 << 20, 'z');
    const std::vector<Request> wide = read_all("p.txt", text + "\r\nb\n" + text);
    ASSERT_EQ(wide.size(), 3U);
    EXPECT_EQ(wide[0].prompt, text);
    EXPECT_EQ(wide[1].prompt, "b");
    EXPECT_EQ(wide[2].prompt, text);
}

TEST(Prompts, DoubledIds) {
    const std::vector<Request> requests = read_all("p.jsonl",
                                                   "{\"id\": \"a\", \"prompt\": \"1\"}\n"
                                                   "{\"id\": \"a\", \"prompt\": \"2\"}\n"
                                                   "{\"id\": \"4\", \"prompt\": \"3\"}\n"
                                                   "{\"prompt\": \"4\"}\n"
                                                   "{\"custom_id\": \"a\", \"method\": \"POST\", \"url\": "
                                                   "\"/v1/completions\", \"body\": {\"prompt\": \"5\"}}\n"
                                                   "{\"id\": \"b\", \"prompt\": \"\"}\n"
                                                   "{\"id\": \"b\", \"prompt\": \"7\"}\n");
    ASSERT_EQ(requests.size(), 7U);
    EXPECT_FALSE(requests[0].error);
    EXPECT_THAT(requests[1].error.value_or(""), HasSubstr("line 2: the id 'a' is already that of line 1"));
    EXPECT_FALSE(requests[2].error);
    EXPECT_THAT(requests[3].error.value_or(""), HasSubstr("line 4: the id '4' is already that of line 3"));
    EXPECT_THAT(requests[4].error.value_or(""), HasSubstr("line 5: the id 'a' is already that of line 1"));
    EXPECT_THAT(requests[5].error.value_or(""), HasSubstr("the prompt is empty"));
    EXPECT_THAT(requests[6].error.value_or(""), HasSubstr("line 7: the id 'b' is already that of line 6"));
}

TEST(Prompts, BadFiles) {
    const test::TemporaryFolder folder;
    const auto message = [&](const std::string& path) {
        try {
            PromptReader reader(path);
        } catch (const UsageError& error) {
            return std::string(error.what());
        }
        return std::string("no error");
    };
    EXPECT_THAT(message(folder.file("none.jsonl")), HasSubstr("No such file"));
    EXPECT_THAT(message(folder.path().string()), HasSubstr("is a folder"));
    test::write_file(folder.file("p.csv"), "a,b\n");
    EXPECT_THAT(message(folder.file("p.csv")), HasSubstr("ends in .jsonl"));
    test::write_file(folder.file("z.jsonl"), "\x1F\x8B\x08 and so on");
    EXPECT_THAT(message(folder.file("z.jsonl")), HasSubstr("is compressed"));
    test::write_file(folder.file("u.txt"), "\xFF\xFEh");
    EXPECT_THAT(message(folder.file("u.txt")), HasSubstr("is UTF-16"));
}

TEST(Prompts, RequestsTravel) {
    Request r = parse(
        R"({"id": "a", "messages": [{"role": "user", "content": "Hi \u00e9 \u0000"}], "stop": ["x", ""], "n": 3})");
    r.sampling.seed = 0xFFFFFFFFFFFFFFFF;
    r.sampling.stop_token_ids = {1, 2};
    r.sampling.prompt_logprobs = 5;
    r.prompt_ids = {4, 5};
    r.form = RequestForm::batch_chat;
    r.error = "line 7: x";
    const Request back = unpack_request(pack(r));
    EXPECT_EQ(back.line, 7);
    EXPECT_EQ(back.id, "a");
    EXPECT_EQ(back.form, r.form);
    EXPECT_EQ(back.messages, r.messages);
    EXPECT_EQ(back.template_context, r.template_context);
    EXPECT_EQ(back.sampling, r.sampling);
    EXPECT_EQ(back.prompt_ids, r.prompt_ids);
    EXPECT_EQ(back.error, r.error);
    const std::vector<std::byte> bytes = pack(r);
    EXPECT_THROW(unpack_request(std::span(bytes).first(bytes.size() - 3)), Error);
}

struct BadLine {
    const char* line;
    const char* message;
};

class BadLines : public testing::TestWithParam<BadLine> {};

TEST_P(BadLines, NameTheirCause) {
    PromptLimits limits;
    limits.vocab_size = 1000;
    const Request request = parse(GetParam().line, limits);
    ASSERT_TRUE(request.error) << GetParam().line;
    EXPECT_THAT(*request.error, testing::StartsWith("line 7: "));
    EXPECT_THAT(*request.error, HasSubstr(GetParam().message)) << GetParam().line;
}

const BadLine bad_json[] = {
    {"{\"prompt\": \"a\"", "bad JSON at byte"},
    {"not json", "bad JSON at byte"},
    {"{'prompt': 'a'}", "bad JSON at byte 2"},
    {"[1, 2]", "a line must be a JSON object, not a list"},
    {"\"text\"", "a line must be a JSON object, not a text ('text')"},
    {"null", "a line must be a JSON object, not null"},
    {"{\"prompt\": \"a\"} {\"prompt\": \"b\"}", "bad JSON"},
    {"{\"prompt\": \"a\", \"temperature\": NaN}", "bad JSON"},
    {"{\"prompt\": \"a\", \"temperature\": 1e999}", "bad JSON"},
    {"{\"prompt\": \"\\ud800\"}", "bad JSON"},
    {"{\"prompt\": \"\xC0\x80\"}", "invalid UTF-8 at byte 13 (0xC0)"},
    {"{\"prompt\": \"\xED\xA0\x80\"}", "invalid UTF-8 at byte 13 (0xED)"},
    {"{\"prompt\": \"a\tb\"}", "bad JSON"},
};
INSTANTIATE_TEST_SUITE_P(Json, BadLines, testing::ValuesIn(bad_json));

const BadLine bad_prompts[] = {
    {R"({})", "neither 'prompt' nor 'messages'"},
    {R"({"id": "a"})", "neither 'prompt' nor 'messages'"},
    {R"({"prompt": "a", "messages": [{"role": "user"}]})", "both 'prompt' and 'messages'"},
    {R"({"prompt": ""})", "the prompt is empty"},
    {R"({"prompt": []})", "the prompt is empty"},
    {R"({"messages": []})", "the prompt is empty"},
    {R"({"prompt": null})", "neither 'prompt' nor 'messages'"},
    {R"({"prompt": 5})", "'prompt' must be a text or a list of token ids, not 5"},
    {R"({"prompt": ["a", "b"]})", "'prompt' is a list of prompts"},
    {R"({"prompt": [[1], [2]]})", "'prompt' is a list of prompts"},
    {R"({"prompt": [1, "b"]})", "'prompt' holds a text ('b') at place 1"},
    {R"({"prompt": [1, 2.5]})", "'prompt' holds 2.5 at place 1"},
    {R"({"prompt": [1, -2]})", "token id -2 at place 1 of 'prompt' is out of range"},
    {R"({"prompt": [1, 1000]})",
     "token id 1000 at place 1 of 'prompt' is out of range: the vocabulary has 1000"},
    {R"({"prompt": [99999999999999999999]})", "'prompt' holds 1e+20 at place 0"},
    {R"({"prompt": [18446744073709551615]})", "'prompt' is out of range"},
    {R"({"messages": "hi"})", "'messages' must be a list of objects"},
    {R"({"messages": ["hi"]})", "'messages[0]' must be an object"},
    {R"({"messages": [{"content": "hi"}]})", "messages[0] has no 'role'"},
    {R"({"messages": [{"role": 1}]})", "'messages[0].role' must be a text"},
    {R"({"messages": [{"role": "user"}], "chat_template_kwargs": {"messages": []}})", "stands beside"},
    {R"({"messages": [{"role": "user"}], "chat_template_kwargs": []})", "must be an object"},
    {R"({"messages": [{"role": "user"}], "tools": {}})", "'tools' must be a list"},
    {R"({"messages": [{"role": "user"}], "add_generation_prompt": 1})", "must be true or false"},
    {R"({"prompt": "a", "add_generation_prompt": true})", "belongs to chats"},
    {R"({"prompt": "a", "id": ""})", "'id' is empty"},
    {R"({"prompt": "a", "id": 1.5})", "'id' must be a text, not 1.5"},
    {R"({"prompt": "a", "id": [1]})", "'id' must be a text"},
};
INSTANTIATE_TEST_SUITE_P(Prompt, BadLines, testing::ValuesIn(bad_prompts));

const BadLine bad_keys[] = {
    {R"({"prompt": "a", "temprature": 1})", "unknown key 'temprature'; did you mean 'temperature'?"},
    {R"({"promt": "a"})", "unknown key 'promt'; did you mean 'prompt'?"},
    {R"({"message": [{"role": "user"}]})", "unknown key 'message'; did you mean 'messages'?"},
    {R"({"prompt": "a", "zzzzzzzzzz": 1})", "unknown key 'zzzzzzzzzz'"},
    {R"({"prompt": "a", "temperature": "hot"})", "'temperature' must be a number, not a text ('hot')"},
    {R"({"prompt": "a", "temperature": -0.1})", "'temperature' must be from 0 to 1e6, but is -0.1"},
    {R"({"prompt": "a", "temperature": true})", "'temperature' must be a number, not true"},
    {R"({"prompt": "a", "top_p": 0})", "'top_p' must be above 0 and at most 1, but is 0"},
    {R"({"prompt": "a", "top_p": 1.01})", "'top_p' must be"},
    {R"({"prompt": "a", "min_p": 2})", "'min_p' must be"},
    {R"({"prompt": "a", "top_k": -2})", "'top_k' must be"},
    {R"({"prompt": "a", "top_k": 1.5})", "'top_k' must be an integer, not 1.5"},
    {R"({"prompt": "a", "max_tokens": 0})", "'max_tokens' must be at least 1, but is 0"},
    {R"({"prompt": "a", "max_tokens": "5"})", "'max_tokens' must be an integer, not a text ('5')"},
    {R"({"prompt": "a", "max_tokens": 1e300})", "'max_tokens' must be an integer"},
    {R"({"prompt": "a", "max_tokens": 18446744073709551615})", "'max_tokens' is out of range"},
    {R"({"prompt": "a", "max_tokens": 5, "max_completion_tokens": 5})", "are the same"},
    {R"({"prompt": "a", "max_tokens": 5, "min_tokens": 6})", "'min_tokens' (6) exceeds 'max_tokens' (5)"},
    {R"({"prompt": "a", "min_tokens": -1})", "'min_tokens' must be"},
    {R"({"prompt": "a", "presence_penalty": 2.5})", "'presence_penalty' must be"},
    {R"({"prompt": "a", "frequency_penalty": -3})", "'frequency_penalty' must be"},
    {R"({"prompt": "a", "repetition_penalty": 0})", "'repetition_penalty' must be"},
    {R"({"prompt": "a", "n": 0})", "'n' must be"},
    {R"({"prompt": "a", "n": 1000000})", "'n' must be"},
    {R"({"prompt": "a", "seed": -1})", "'seed' must not be negative"},
    {R"({"prompt": "a", "seed": "x"})", "'seed' must be an integer"},
    {R"({"prompt": "a", "stop": 5})", "'stop' must be a text"},
    {R"({"prompt": "a", "stop": ["a", 5]})", "'stop' must be a text"},
    {R"({"prompt": "a", "stop": ""})", "'stop' holds an empty text"},
    {R"({"prompt": "a", "stop_token_ids": 5})", "'stop_token_ids' must be a list"},
    {R"({"prompt": "a", "stop_token_ids": [5000]})", "'stop_token_ids' is out of range"},
    {R"({"prompt": "a", "ignore_eos": "yes"})", "'ignore_eos' must be true or false"},
    {R"({"prompt": "a", "logprobs": true})", "'logprobs' must be an integer"},
    {R"({"prompt": "a", "logprobs": -1})", "'logprobs' must be from 0 to 100"},
    {R"({"prompt": "a", "prompt_logprobs": 101})", "'prompt_logprobs' must be from 0 to 100"},
    {R"({"prompt": "a", "top_logprobs": 2})", "belongs to chats"},
    {R"({"messages": [{"role": "user"}], "top_logprobs": 2})", "needs 'logprobs'"},
};
INSTANTIATE_TEST_SUITE_P(Keys, BadLines, testing::ValuesIn(bad_keys));

const BadLine bad_batch[] = {
    {R"({"custom_id": "a"})", "'method' is missing"},
    {R"({"method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}})", "'custom_id' is missing"},
    {R"({"custom_id": 5, "method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}})",
     "'custom_id' must be a text, not 5"},
    {R"({"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {"prompt": "a"}})",
     "'method' must be POST, not 'GET'"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}})",
     "'url' must be /v1/completions or /v1/chat/completions, not '/v1/embeddings'"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": "x"})",
     "'body' must be an object"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {}})", "'prompt' is missing"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}})",
     "'messages' is missing"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"messages": []}})",
     "'messages' goes to /v1/chat/completions"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"prompt": "a"}})",
     "'prompt' goes to /v1/completions"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a", "stream": true}})",
     "'stream' is supported only as false"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a", "best_of": 3}})",
     "'best_of' is supported only as 1"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a", "logit_bias": {"5": 1}}})",
     "'logit_bias' is supported only as {}"},
    {R"({"custom_id": "a", "methd": "POST", "url": "/v1/completions", "body": {"prompt": "a"}})",
     "unknown key 'methd'; did you mean 'method'?"},
    {R"({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
         "body": {"messages": [{"role": "user"}], "logprobs": 5}})",
     "'logprobs' must be true or false"},
};
INSTANTIATE_TEST_SUITE_P(Batch, BadLines, testing::ValuesIn(bad_batch));

TEST(Prompts, ErrorsKeepTheFormAndId) {
    const Request batch = parse(
        R"({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [], "n": 0}})");
    EXPECT_TRUE(batch.error);
    EXPECT_EQ(batch.id, "a");
    EXPECT_EQ(batch.form, RequestForm::batch_chat);
    const Request simple = parse(R"({"id": "a", "prompt": ""})");
    EXPECT_TRUE(simple.error);
    EXPECT_EQ(simple.id, "a");
    EXPECT_EQ(parse("{").id, "7");
}

TEST(Prompts, DeepJsonIsRefused) {
    EXPECT_THAT(*parse(R"({"messages": )" + std::string(1'000'000, '[')).error, HasSubstr("in each other"));
    EXPECT_THAT(*parse(R"({"messages": )" + std::string(199, '[') + std::string(199, ']') + "}").error,
                HasSubstr("messages[0]"));
    EXPECT_EQ(json_depth(R"({"a": "[[[\"[[", "b": [{}]})"), 3);
}

TEST(Prompts, LongTextsAreCutInMessages) {
    const Request request = parse(R"({"prompt": "a", ")" + std::string(100'000, 'k') + R"(": 1})");
    EXPECT_LT(request.error.value().size(), 200U);
    const Request broken = parse("{\"prompt\": \"" + std::string(100'000, 'k'));
    EXPECT_LT(broken.error.value().size(), 400U);
}

}  // namespace
}  // namespace mixserve::io
