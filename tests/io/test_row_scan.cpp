#include <gmock/gmock.h>

#include "base/error.h"
#include "io/prompts.h"
#include "io/row_scan.h"
#include "io/row_writer.h"
#include "io/rows.h"
#include "io/step_scan.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& path) {
    RowIndex index;
    try {
        index_rows(path, index);
    } catch (const UsageError& error) {
        return error.what();
    }
    return "no error";
}

Result finished(const std::string& id, RequestForm form, size_t n_choices) {
    Result result;
    result.line = 7;
    result.id = id;
    result.form = form;
    result.n_prompt_tokens = 5;
    for (size_t i = 0; i < n_choices; ++i)
        result.choices.push_back({"text with \"error\" and \n", {1, 2, 3}, FinishReason::length, {}});
    return result;
}

// What is written is what is read back, in every form of row.
TEST(RowScan, ReadsEveryForm) {
    for (const RequestForm form : {RequestForm::completion, RequestForm::chat, RequestForm::batch_completion,
                                   RequestForm::batch_chat}) {
        for (const size_t n : {1, 3}) {
            const std::optional<RowFacts> row = read_row(row_of(finished("a b", form, n), {"m", 1}));
            ASSERT_TRUE(row);
            EXPECT_EQ(row->id, "a b");
            EXPECT_FALSE(row->failed);
            EXPECT_EQ(row->n_input_tokens, 5);
            EXPECT_EQ(row->n_output_tokens, static_cast<int64_t>(3 * n));
        }
        Request bad;
        bad.line = 12;
        bad.id = "12";
        bad.form = form;
        bad.error = "line 12: no \"id\": 3";
        const std::optional<RowFacts> row = read_row(row_of(result_of(bad), {"m", 1}));
        ASSERT_TRUE(row);
        EXPECT_TRUE(row->failed);
        EXPECT_EQ(row->error_line, 12);
    }
    Result numbered = finished("-3", RequestForm::completion, 1);
    numbered.id_is_number = true;
    EXPECT_EQ(read_row(row_of(numbered, {"m", 1}))->id, "-3");
}

TEST(RowScan, ReadsScores) {
    ScoreResult score;
    score.id = "s";
    score.token_ids = {4, 5, 6};
    score.logprobs = {-0.1F, -3};
    const std::optional<RowFacts> row = read_row(row_of(score));
    ASSERT_TRUE(row);
    EXPECT_EQ(row->n_input_tokens, 3);
    EXPECT_EQ(row->n_logprobs, 2);
    EXPECT_DOUBLE_EQ(row->sum_logprobs, static_cast<double>(-0.1F) - 3);
}

TEST(RowScan, RefusesWhatIsNoRow) {
    const std::string row = row_of(finished("a", RequestForm::batch_chat, 2), {"m", 1});
    for (size_t n = 0; n < row.size(); ++n)
        ASSERT_FALSE(read_row(row.substr(0, n))) << row.substr(0, n);
    for (const char* text :
         {"", "[]", "3", "{}", R"({"id":null})", R"({"id":"a","error":"no line"})", "{\"id\":\"a\"}}"})
        EXPECT_FALSE(read_row(text)) << text;
    EXPECT_FALSE(read_row(std::string(20, '\0')));
}

// Whatever byte a job died at, what is cut off is the row that was being written and no other.
TEST(RowScan, TornTailAtEveryByte) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("r.jsonl");
    const std::string one = R"({"id":"a","text":"x\n"})"
                            "\n";
    const std::string two = R"({"id":7,"error":"line 3: bad"})"
                            "\n";
    for (size_t n = 0; n <= one.size() + two.size(); ++n) {
        test::write_file(path, (one + two).substr(0, n));
        RowIndex index;
        const RowScan scan = index_rows(path, index);
        const size_t n_whole = n < one.size() ? 0 : n < one.size() + two.size() ? one.size() : n;
        ASSERT_EQ(scan.n_bytes, static_cast<int64_t>(n_whole));
        ASSERT_EQ(scan.n_torn_bytes, static_cast<int64_t>(n - n_whole));
        ASSERT_EQ(index.ids.has_row("a"), n_whole > 0);
        ASSERT_EQ(index.has_error_row(3), n == one.size() + two.size());
        ASSERT_FALSE(index.ids.has_row("7"));
        RowWriter::append(path, scan.n_bytes).write("{}");
        ASSERT_EQ(test::read_file(path), (one + two).substr(0, n_whole) + "{}\n");
    }
    // Blocks that never reached the disk of a machine that died.
    test::write_file(path, one + std::string(5000, '\0'));
    RowIndex index;
    EXPECT_EQ(index_rows(path, index).n_torn_bytes, 5000);
}

TEST(RowScan, DamageBeforeWholeRowsIsRefused) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("r.jsonl");
    test::write_file(path, "{\"id\":\"a\"}\n{\"id\":\n{\"id\":\"b\"}\n");
    EXPECT_THAT(refusal(path), HasSubstr("line 2 of"));
    test::write_file(path, "{\"id\":\"a\"}\n{\"id\":\"a\"}\n");
    EXPECT_THAT(refusal(path), HasSubstr("two rows of the prompt 'a'"));
    test::write_file(path,
                     "{\"id\":\"a\",\"error\":\"line 2: x\"}\n{\"id\":\"b\",\"error\":\"line 2: y\"}\n");
    EXPECT_THAT(refusal(path), HasSubstr("two error rows of line 2"));
    // A doubled id in the input gives two rows of one id, which is no fault.
    test::write_file(path, "{\"id\":\"a\"}\n{\"id\":\"a\",\"error\":\"line 2: x\"}\n");
    EXPECT_EQ(refusal(path), "no error");
}

// Every line of the input has a row or runs; one that has the id of another does not stand in for it.
TEST(RowScan, ReaderKnowsWhatHasARow) {
    const test::TemporaryFolder folder;
    const std::string prompts = folder.file("p.jsonl");
    test::write_file(prompts, R"({"id":"a","prompt":"x"}
{"id":"a","prompt":"doubled"}
not json
{"prompt":"its id is 4"}
{"id":"e","prompt":"x","temperature":-1}
{"id":"f","prompt":"x"}
)");
    const std::string rows = folder.file("r.jsonl");
    const auto rows_there = [&](const std::string& text) {
        test::write_file(rows, text);
        RowIndex index;
        index_rows(rows, index);
        PromptReader reader(prompts, {}, {}, std::move(index));
        std::vector<int64_t> lines;
        while (const auto request = reader.next()) {
            if (reader.has_row()) lines.push_back(request->line);
        }
        return lines;
    };
    using testing::ElementsAre;
    EXPECT_THAT(rows_there(""), ElementsAre());
    EXPECT_THAT(rows_there("{\"id\":\"a\"}\n"), ElementsAre(1));
    EXPECT_THAT(rows_there("{\"id\":\"a\",\"error\":\"line 2: the id\"}\n"), ElementsAre(2));
    EXPECT_THAT(rows_there("{\"id\":3,\"error\":\"line 3: bad\"}\n{\"id\":4}\n"), ElementsAre(3, 4));
    EXPECT_THAT(rows_there("{\"id\":\"e\",\"error\":\"line 5: bad\"}\n"), ElementsAre(5));
    // A good line whose prompt turned out too long, say, has an error row as well.
    EXPECT_THAT(rows_there("{\"id\":\"f\",\"error\":\"line 6: too long\"}\n"), ElementsAre(6));
}

TEST(Shards, EveryLineIsInOne) {
    for (const int64_t count : {1, 2, 7}) {
        for (int64_t line = 1; line < 50; ++line) {
            int64_t n = 0;
            for (int64_t index = 0; index < count; ++index)
                n += Shard{index, count}.takes(line) ? 1 : 0;
            EXPECT_EQ(n, 1);
        }
    }
    const test::TemporaryFolder folder;
    test::write_file(folder.file("p.txt"), "a\n\nb\nc\n");
    EXPECT_EQ(scan_input(folder.file("p.txt")).n_prompts, 3);
    EXPECT_EQ(scan_input(folder.file("p.txt"), {0, 2}).n_in_shard, 2);  // lines 1 and 3
    EXPECT_EQ(scan_input(folder.file("p.txt"), {1, 2}).n_in_shard, 1);  // line 4; line 2 is blank
    const std::string digest = scan_input(folder.file("p.txt")).digest;
    PromptReader reader(folder.file("p.txt"));
    while (reader.next()) {
    }
    EXPECT_EQ(reader.digest(), digest);
    test::write_file(folder.file("p.txt"), "a\n\nb\nd\n");
    EXPECT_NE(scan_input(folder.file("p.txt")).digest, digest);
}

TEST(StepScan, GoesOnAfterTheLastWholeLine) {
    const test::TemporaryFolder folder;
    const std::string path = folder.file("steps.jsonl");
    EXPECT_EQ(scan_steps(path).n_steps, 0);
    const std::string whole = R"({"step":0,"time_s":1.5,"phases":{"attention":{"mean_ms":250}}}
{"step":1,"time_s":2.5,"phases":{"attention":{"mean_ms":500}}}
)";
    test::write_file(path, whole + R"({"step":2,"time)");
    const StepScan scan = scan_steps(path);
    EXPECT_EQ(scan.n_steps, 2);
    EXPECT_EQ(scan.time_s, 2.5);
    EXPECT_DOUBLE_EQ(scan.phase_seconds[static_cast<size_t>(Phase::attention)], 0.75);
    EXPECT_EQ(scan.n_bytes, static_cast<int64_t>(whole.size()));
}

}  // namespace
}  // namespace mixserve::io
