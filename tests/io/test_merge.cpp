#include <gmock/gmock.h>

#include "base/error.h"
#include "io/merge.h"
#include "support/test_support.h"

namespace mixserve::io {
namespace {

using testing::ElementsAre;

std::vector<std::string> ids(const std::vector<PromptName>& names) {
    std::vector<std::string> texts;
    for (const PromptName& name : names)
        texts.push_back(name.id);
    return texts;
}

class Merge : public testing::Test {
  protected:
    std::string rows(const std::string& name, const std::string& text) {
        test::write_file(folder_.file(name), text);
        return folder_.file(name);
    }
    MergeReport merge(const std::vector<std::string>& files) {
        const std::string prompts = folder_.file("p.jsonl");
        test::write_file(prompts,
                         "{\"id\":\"a\",\"prompt\":\"x\"}\n\nbad\n{\"id\":\"a\",\"prompt\":\"x\"}\n{"
                         "\"prompt\":\"five\"}\n");
        RowWriter writer = RowWriter::append(folder_.file("out.jsonl"), 0);
        return merge_rows({prompts, scan_input(prompts).digest, {}, {}}, files, writer);
    }
    std::string written() { return test::read_file(folder_.file("out.jsonl")); }

    test::TemporaryFolder folder_;
    const std::string a_ = "{\"id\":\"a\",\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n";
    const std::string bad_ = "{\"id\":3,\"error\":\"line 3: bad\"}\n";
    const std::string twin_ = "{\"id\":\"a\",\"error\":\"line 4: doubled\"}\n";
    const std::string five_ = "{\"id\":5}\n";
};

TEST_F(Merge, Whole) {
    const MergeReport report = merge({rows("0", a_ + five_), rows("1", bad_ + twin_), folder_.file("none")});
    EXPECT_TRUE(report.whole());
    EXPECT_EQ(report.n_prompts, 4);
    EXPECT_EQ(report.totals.n_completed, 2);
    EXPECT_EQ(report.totals.n_failed, 2);
    EXPECT_EQ(report.totals.n_output_tokens, 3);
    EXPECT_EQ(written(), a_ + five_ + bad_ + twin_);
}

TEST_F(Merge, MissingDoubledAndForeignRowsAreNamed) {
    const MergeReport report = merge(
        {rows("0", a_ + "{\"id\":\"other\"}\n" + twin_), rows("1", a_ + a_ + twin_ + bad_.substr(0, 12))});
    EXPECT_FALSE(report.whole());
    EXPECT_EQ(report.n_missing, 2);
    EXPECT_THAT(ids(report.missing), ElementsAre("3", "5"));
    EXPECT_EQ(report.n_doubled, 2);
    EXPECT_THAT(ids(report.doubled), ElementsAre("a", "a"));
    EXPECT_EQ(report.doubled[1].line, 4);
    EXPECT_EQ(report.n_foreign, 1);
    EXPECT_THAT(ids(report.foreign), ElementsAre("other"));
    EXPECT_EQ(written(), a_ + twin_);
}

TEST_F(Merge, AnotherInputIsRefused) {
    test::write_file(folder_.file("p.txt"), "x\ny\n");
    RowWriter writer = RowWriter::append(folder_.file("out.jsonl"), 0);
    EXPECT_THROW(merge_rows({folder_.file("p.txt"), std::string(32, '0'), {}, {}}, {}, writer), UsageError);
    const MergeReport report =
        merge_rows({folder_.file("p.txt"), scan_input(folder_.file("p.txt")).digest, {}, {}},
                   {rows("0", "{\"id\":2}\n")}, writer);
    EXPECT_THAT(ids(report.missing), ElementsAre("1"));
}

}  // namespace
}  // namespace mixserve::io
