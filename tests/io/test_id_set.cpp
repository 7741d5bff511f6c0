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

TEST(IdSet, TakesAnyText) {
    IdSet ids;
    EXPECT_FALSE(ids.add("", 1));
    EXPECT_FALSE(ids.add(std::string("\0", 1), 2));
    EXPECT_EQ(ids.add("", 3), 1);
}

}  // namespace
}  // namespace mixserve::io
