#include <gmock/gmock.h>

#include <cmath>

#include "base/json.h"
#include "base/utf8.h"
#include "io/row_parts.h"
#include "io/rows.h"

namespace mixserve::io {
namespace {

using testing::HasSubstr;

PositionLogprobs position(int32_t token, const std::string& text, float logprob, int64_t offset) {
    PositionLogprobs p;
    p.chosen = {token, text, logprob};
    p.rank = 2;
    p.top = {{9, "best", -0.1F}, p.chosen};
    p.text_offset = offset;
    return p;
}

Result sample_result(RequestForm form) {
    Result result;
    result.line = 3;
    result.id = "r-3";
    result.form = form;
    result.choices.push_back({" so\n", {7, 8}, FinishReason::stop, {}});
    result.n_prompt_tokens = 5;
    result.metrics = {12.34567, 56.789, {10.0F, 20.0F}};
    return result;
}

ordered_json row_json(const Result& result) {
    return ordered_json::parse(row_of(result, {"m-1", 1700000000}));
}

TEST(Rows, SimpleRow) {
    EXPECT_EQ(row_of(sample_result(RequestForm::completion), {}),
              R"({"id":"r-3","text":" so\n","token_ids":[7,8],"finish_reason":"stop",)"
              R"("usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7},)"
              R"("metrics":{"ttft_ms":12.346,"itl_ms_mean":15.0,"e2e_ms":56.789}})");
}

TEST(Rows, SeveralSamples) {
    Result result = sample_result(RequestForm::chat);
    result.choices.push_back({"x", {1}, FinishReason::length, {}});
    const ordered_json row = row_json(result);
    EXPECT_EQ(row["choices"].dump(),
              R"([{"index":0,"text":" so\n","token_ids":[7,8],"finish_reason":"stop"},)"
              R"({"index":1,"text":"x","token_ids":[1],"finish_reason":"length"}])");
    EXPECT_FALSE(row.contains("text"));
    EXPECT_EQ(row["usage"]["completion_tokens"], 3);
}

TEST(Rows, IdsKeepTheirType) {
    Result result = sample_result(RequestForm::completion);
    result.id = "17";
    EXPECT_EQ(row_json(result)["id"], "17");
    result.id_is_number = true;
    EXPECT_EQ(row_json(result)["id"], 17);
}

TEST(Rows, SimpleLogprobs) {
    Result result = sample_result(RequestForm::completion);
    result.wants_logprobs = result.wants_prompt_logprobs = true;
    result.choices[0].logprobs = {position(7, " so", -0.7F, 0), position(8, "\n", -1.5F, 3)};
    result.prompt_logprobs = {position(4, "p", -2.25F, 0)};
    const ordered_json row = row_json(result);
    EXPECT_EQ(
        row["logprobs"][0].dump(),
        R"({"token_id":7,"token":" so","logprob":-0.7,"rank":2,"top":[)"
        R"({"token_id":9,"token":"best","logprob":-0.1},{"token_id":7,"token":" so","logprob":-0.7}]})");
    ASSERT_EQ(row["prompt_logprobs"].size(), 2U);
    EXPECT_TRUE(row["prompt_logprobs"][0].is_null());
    EXPECT_EQ(row["prompt_logprobs"][1]["logprob"], -2.25);
}

TEST(Rows, OpenAiCompletion) {
    Result result = sample_result(RequestForm::batch_completion);
    result.wants_logprobs = true;
    result.choices[0].logprobs = {position(7, " so", -0.7F, 0), position(8, "\n", -1.5F, 3)};
    const ordered_json row = row_json(result);
    EXPECT_EQ(row["custom_id"], "r-3");
    EXPECT_TRUE(row["error"].is_null());
    EXPECT_EQ(row["response"]["status_code"], 200);
    const ordered_json& body = row["response"]["body"];
    EXPECT_EQ(body["object"], "text_completion");
    EXPECT_EQ(body["model"], "m-1");
    EXPECT_EQ(body["created"], 1700000000);
    EXPECT_EQ(body["choices"][0]["text"], " so\n");
    EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(body["choices"][0]["logprobs"].dump(),
              R"({"tokens":[" so","\n"],"token_logprobs":[-0.7,-1.5],)"
              R"("top_logprobs":[{"best":-0.1," so":-0.7},{"best":-0.1,"\n":-1.5}],"text_offset":[0,3]})");
    EXPECT_EQ(body["usage"]["total_tokens"], 7);
}

TEST(Rows, OpenAiChat) {
    Result result = sample_result(RequestForm::batch_chat);
    ordered_json body = row_json(result)["response"]["body"];
    EXPECT_EQ(body["object"], "chat.completion");
    EXPECT_EQ(body["choices"][0]["message"].dump(), R"({"role":"assistant","content":" so\n"})");
    EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());

    result.wants_logprobs = true;
    result.choices[0].logprobs = {position(7, "\xC3\xA9", -0.5F, 0)};
    body = row_json(result)["response"]["body"];
    EXPECT_EQ(body["choices"][0]["logprobs"]["content"][0].dump(),
              "{\"token\":\"\xC3\xA9\",\"logprob\":-0.5,\"bytes\":[195,169],\"top_logprobs\":["
              "{\"token\":\"best\",\"logprob\":-0.1,\"bytes\":[98,101,115,116]},"
              "{\"token\":\"\xC3\xA9\",\"logprob\":-0.5,\"bytes\":[195,169]}]}");

    result.wants_prompt_logprobs = true;
    result.prompt_logprobs = {position(4, "p", -2.25F, 0)};
    body = row_json(result)["response"]["body"];
    EXPECT_EQ(body["prompt_logprobs"].dump(), R"([null,{"4":{"logprob":-2.25,"rank":2,"decoded_token":"p"},)"
                                              R"("9":{"logprob":-0.1,"rank":1,"decoded_token":"best"}}])");
}

TEST(Rows, Errors) {
    Request request;
    request.line = 3;
    request.id = "r-3";
    const Result simple = error_result(request, "too long");
    EXPECT_EQ(row_of(simple, {}), R"({"id":"r-3","error":"line 3: too long"})");
    request.form = RequestForm::batch_chat;
    const ordered_json row = row_json(error_result(request, "too long"));
    EXPECT_EQ(row["custom_id"], "r-3");
    EXPECT_EQ(row["response"]["status_code"], 400);
    EXPECT_EQ(row["response"]["body"]["error"]["message"], "line 3: too long");
    EXPECT_EQ(row["error"]["message"], "line 3: too long");
    request.error = "line 3: bad JSON";
    EXPECT_EQ(result_of(request).error, "line 3: bad JSON");
}

TEST(Rows, AreValidUtf8InOneLine) {
    Result result = sample_result(RequestForm::completion);
    result.choices[0].text = "a\xFF\n\xE2\x82";
    const std::string row = row_of(result, {});
    EXPECT_EQ(row.find('\n'), std::string::npos);
    EXPECT_FALSE(first_invalid_utf8(row));
    EXPECT_THAT(row, HasSubstr("a\xEF\xBF\xBD\\n"));
}

TEST(Rows, Scores) {
    ScoreResult score;
    score.id = "s";
    score.token_ids = {4, 5, 6};
    score.logprobs = {-0.5F, -1.5F};
    EXPECT_NEAR(score.perplexity(), std::exp(1.0), 1e-12);
    const ordered_json row = ordered_json::parse(row_of(score));
    EXPECT_EQ(row["token_ids"].dump(), "[4,5,6]");
    EXPECT_EQ(row["logprobs"].dump(), "[null,-0.5,-1.5]");
    EXPECT_NEAR(row["perplexity"].get<double>(), std::exp(1.0), 1e-12);
    score.token_ids = {4};
    score.logprobs.clear();
    EXPECT_EQ(row_of(score), R"({"id":"s","token_ids":[4],"logprobs":[null],"perplexity":null})");
    score.error = "line 1: x";
    EXPECT_EQ(row_of(score), R"({"id":"s","error":"line 1: x"})");
}

TEST(Rows, ShortestDecimals) {
    for (const float value : {-0.1F, -12.345678F, -1e-30F, 0.0F, -88.72284F}) {
        EXPECT_EQ(static_cast<float>(shortest(value)), value);
        EXPECT_LE(ordered_json(shortest(value)).dump().size(), 13U);
    }
}

TEST(Rows, ResultsTravel) {
    Result result = sample_result(RequestForm::batch_completion);
    result.wants_logprobs = result.wants_prompt_logprobs = true;
    result.choices[0].logprobs = {position(7, " so", -0.7F, 4)};
    result.prompt_logprobs = {position(4, "p", -2.25F, 0)};
    const Result back = unpack_result(pack(result));
    EXPECT_EQ(back.line, result.line);
    EXPECT_EQ(back.choices[0].logprobs, result.choices[0].logprobs);
    EXPECT_EQ(back.metrics.itl_ms, result.metrics.itl_ms);
    EXPECT_EQ(row_of(back, {"m", 1}), row_of(result, {"m", 1}));
    result.error = "line 3: x";
    EXPECT_EQ(unpack_result(pack(result)).error, result.error);

    ScoreResult score{3, "s", false, {4, 5}, {-0.5F}, {}};
    EXPECT_EQ(row_of(unpack_score_result(pack(score))), row_of(score));
    score.error = "line 3: y";
    EXPECT_EQ(unpack_score_result(pack(score)).error, score.error);
}

TEST(Utf8, FindsTheFirstBadByte) {
    const auto bad = [](const std::string& text) { return first_invalid_utf8(text).value_or(999); };
    EXPECT_EQ(bad("plain ascii, longer than eight"), 999U);
    EXPECT_EQ(bad("\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \xF4\x8F\xBF\xBF"), 999U);
    EXPECT_EQ(bad("12345678\x80"), 8U);
    EXPECT_EQ(bad("a\xC0\xAF"), 1U);         // overlong
    EXPECT_EQ(bad("a\xE0\x80\xAF"), 1U);     // overlong
    EXPECT_EQ(bad("\xED\xA0\x80"), 0U);      // a surrogate
    EXPECT_EQ(bad("\xF4\x90\x80\x80"), 0U);  // past U+10FFFF
    EXPECT_EQ(bad("\xF5\x80\x80\x80"), 0U);
    EXPECT_EQ(bad("ab\xE2\x82"), 2U);  // cut short
    EXPECT_EQ(valid_utf8("a\xFF\xE2\x82z"), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
    EXPECT_EQ(n_characters("\xC3\xA9 \xE2\x82\xAC"), 3);
    EXPECT_EQ(in_quotes("a\n\xC3\xA9", 3), "'a ...'");
}

}  // namespace
}  // namespace mixserve::io
