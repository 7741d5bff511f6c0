#include <gmock/gmock.h>

#include "app/byte_size.h"
#include "base/error.h"

namespace mixserve::app {
namespace {

TEST(ByteSize, ReadsUnitsOfBothKinds) {
    EXPECT_EQ(parse_byte_size("--x", "0"), 0);
    EXPECT_EQ(parse_byte_size("--x", "4096"), 4096);
    EXPECT_EQ(parse_byte_size("--x", "12B"), 12);
    EXPECT_EQ(parse_byte_size("--x", "8GiB"), int64_t{8} << 30);
    EXPECT_EQ(parse_byte_size("--x", "8 gib"), int64_t{8} << 30);
    EXPECT_EQ(parse_byte_size("--x", "500MB"), 500'000'000);
    EXPECT_EQ(parse_byte_size("--x", "1.5K"), 1536);
    EXPECT_EQ(parse_byte_size("--x", "2T"), int64_t{2} << 40);
}

TEST(ByteSize, RefusesTheRestByName) {
    for (const char* text :
         {"", "GiB", "-1", "1e9", "nan", "inf", "8 GiBs", "8Q", "8Gi", "0x10", "1,5G", "99999999T", " 8"}) {
        try {
            parse_byte_size("--shard-size", text);
            ADD_FAILURE() << "'" << text << "' was taken";
        } catch (const UsageError& e) {
            EXPECT_THAT(e.what(), testing::HasSubstr("--shard-size: '" + std::string(text) + "'"));
        }
    }
}

TEST(ByteSize, WritesThreeDigits) {
    EXPECT_EQ(byte_size_text(0), "0 B");
    EXPECT_EQ(byte_size_text(1023), "1023 B");
    EXPECT_EQ(byte_size_text(1024), "1 KiB");
    EXPECT_EQ(byte_size_text(int64_t{1023} << 10), "0.999 MiB") << "never in four digits";
    EXPECT_EQ(byte_size_text(int64_t{8} << 30), "8 GiB");
    EXPECT_EQ(byte_size_text(INT64_MAX), "8.39e+06 TiB");
}

}  // namespace
}  // namespace mixserve::app
