#include <gtest/gtest.h>

#include <cstdlib>

#include "app/shard.h"
#include "base/error.h"

namespace mixserve::app {
namespace {

void set_array(const char* id, const char* first, const char* last, const char* step, const char* count) {
    ::setenv("SLURM_ARRAY_TASK_ID", id, 1);
    ::setenv("SLURM_ARRAY_TASK_MIN", first, 1);
    ::setenv("SLURM_ARRAY_TASK_MAX", last, 1);
    ::setenv("SLURM_ARRAY_TASK_STEP", step, 1);
    ::setenv("SLURM_ARRAY_TASK_COUNT", count, 1);
}

TEST(Shard, IsParsed) {
    EXPECT_EQ(parse_shard("0/1").count, 1);
    EXPECT_EQ(parse_shard("3/4").index, 3);
    EXPECT_EQ(parse_shard("3/4").count, 4);
    for (const char* text : {"4/4", "-1/4", "0/0", "1", "1/", "/4", "1/4x", "a/b", "", "0/4/2"})
        EXPECT_THROW(parse_shard(text), UsageError) << text;
}

TEST(Shard, ComesFromASlurmArray) {
    ::unsetenv("SLURM_ARRAY_TASK_ID");
    EXPECT_THROW(parse_shard("auto"), UsageError);
    set_array("7", "5", "8", "1", "4");
    EXPECT_EQ(parse_shard("auto").index, 2);
    EXPECT_EQ(parse_shard("auto").count, 4);
    set_array("4", "0", "6", "2", "4");
    EXPECT_EQ(parse_shard("auto").index, 2);
    set_array("5", "1", "9", "1", "3");  // --array=1,5,9
    EXPECT_THROW(parse_shard("auto"), UsageError);
}

}  // namespace
}  // namespace mixserve::app
