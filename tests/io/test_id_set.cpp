#include <gtest/gtest.h>

#include <string>

#include "io/id_set.h"

namespace mixserve::io {
namespace {

TEST(IdSet, FindsWhatWasAddedAndNothingElse) {
    IdSet ids;
    constexpr int64_t n = 300'000;
    for (int64_t i = 1; i <= n; ++i)
        ASSERT_FALSE(ids.add("id-" + std::to_string(i), i));
    EXPECT_EQ(ids.size(), n);
    for (int64_t i = 1; i <= n; i += 7)
        ASSERT_EQ(ids.add("id-" + std::to_string(i), n + i), i);
    EXPECT_EQ(ids.size(), n);
    // Ten million stay below a gigabyte, also while the table grows from one size to the next.
    EXPECT_LE(static_cast<double>(ids.memory_bytes()) * 1.5 / n * 1e7, 1e9);
}

TEST(IdSet, KeepsLinesAndRowsApart) {
    IdSet ids;
    EXPECT_FALSE(ids.has_row("a"));
    EXPECT_EQ(ids.line_of("a"), std::nullopt);
    EXPECT_TRUE(ids.add_row("a"));
    EXPECT_FALSE(ids.add_row("a"));
    EXPECT_EQ(ids.line_of("a"), std::nullopt);
    EXPECT_FALSE(ids.add("a", 7));
    EXPECT_EQ(ids.add("a", 9), 7);
    EXPECT_FALSE(ids.add("b", 8));
    for (int64_t i = 1; i <= 5000; ++i)
        ids.add_row(std::to_string(i));
    EXPECT_TRUE(ids.has_row("a"));
    EXPECT_FALSE(ids.has_row("b"));
    EXPECT_EQ(ids.line_of("a"), 7);
    EXPECT_EQ(ids.line_of("b"), 8);
    EXPECT_EQ(ids.size(), 5002);
}

TEST(IdSet, TakesAnyText) {
    IdSet ids;
    EXPECT_FALSE(ids.add("", 1));
    EXPECT_FALSE(ids.add(std::string("\0", 1), 2));
    EXPECT_EQ(ids.add("", 3), 1);
}

}  // namespace
}  // namespace mixserve::io
