// Partitions, phases, messages between ranks, errors, nearest names and random draws.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/partition.h"
#include "base/phase.h"
#include "base/philox.h"
#include "base/system_memory.h"

namespace mixserve {
namespace {

TEST(Partition, PartsCoverAllItemsInOrderAndDifferByOneAtMost) {
    for (int64_t n_parts = 1; n_parts <= 9; ++n_parts) {
        for (int64_t n_items = 0; n_items <= 40; ++n_items) {
            int64_t next = 0;
            int64_t size_before = n_items;
            for (int64_t part = 0; part < n_parts; ++part) {
                const Range range = partition(n_items, n_parts, part);
                ASSERT_EQ(next, range.begin);
                ASSERT_LE(range.size(), size_before) << "a later part is larger";
                ASSERT_GE(range.size(), n_items / n_parts);
                ASSERT_LE(range.size(), n_items / n_parts + 1);
                for (int64_t item = range.begin; item < range.end; ++item) {
                    ASSERT_EQ(part, part_of(n_items, n_parts, item));
                    ASSERT_TRUE(range.contains(item));
                }
                ASSERT_FALSE(range.contains(range.end));
                size_before = range.size();
                next = range.end;
            }
            ASSERT_EQ(n_items, next);
        }
    }
}

TEST(Partition, CountsPast32Bits) {
    const int64_t n_items = (int64_t{1} << 40) + 3;
    EXPECT_EQ(n_items, partition(n_items, 4, 3).end);
    EXPECT_EQ(3, part_of(n_items, 4, n_items - 1));
    EXPECT_EQ(0, part_of(n_items, 4, 0));
}

double sum(const std::array<double, n_phases>& seconds) {
    return std::accumulate(seconds.begin(), seconds.end(), 0.0);
}

TEST(PhaseTimer, EveryMomentBelongsToOnePhase) {
    PhaseTimer timer;
    timer.take();
    const double begin = now_s();
    timer.enter(Phase::attention);
    timer.enter(Phase::experts);
    const std::array<double, n_phases> seconds = timer.take();
    const double end = now_s();
    EXPECT_GE(sum(seconds), 0.0);
    EXPECT_GT(seconds[static_cast<size_t>(Phase::attention)], 0.0);
    EXPECT_EQ(0.0, seconds[static_cast<size_t>(Phase::dispatch)]);
    timer.enter(Phase::idle);
    const double after = sum(timer.take());
    EXPECT_LE(after, now_s() - begin) << "time before take() was counted twice";
    EXPECT_LE(begin, end);
}

TEST(PhaseTimer, AScopeGoesBackToThePhaseBefore) {
    PhaseTimer timer;
    timer.enter(Phase::attention);
    {
        const PhaseScope scope(timer, Phase::router);
        EXPECT_EQ(Phase::router, timer.current());
        const PhaseScope inner(timer, Phase::idle);
        EXPECT_EQ(Phase::idle, timer.current());
    }
    EXPECT_EQ(Phase::attention, timer.current());
}

TEST(PhaseTimer, TracedSpansFollowEachOtherAndKeepTheirLayer) {
    PhaseTimer timer;
    timer.enter(Phase::attention);
    EXPECT_TRUE(timer.take_spans().empty()) << "no tracing was asked for";
    timer.set_tracing(true);
    timer.set_layer(3);
    timer.enter(Phase::experts);
    timer.set_layer(-1);
    timer.enter(Phase::logits);
    timer.enter(Phase::output);
    const std::vector<TraceSpan> spans = timer.take_spans();
    ASSERT_EQ(3u, spans.size());
    EXPECT_EQ(Phase::attention, spans[0].phase);
    EXPECT_EQ(3, spans[0].layer);
    EXPECT_EQ(Phase::logits, spans[2].phase);
    EXPECT_EQ(-1, spans[2].layer);
    for (size_t i = 0; i < spans.size(); ++i) {
        EXPECT_LT(spans[i].begin_s, spans[i].end_s);
        if (i > 0) {
            EXPECT_EQ(spans[i - 1].end_s, spans[i].begin_s);
        }
    }
    EXPECT_TRUE(timer.take_spans().empty());
}

TEST(PhaseTimer, EveryPhaseHasItsOwnName) {
    std::vector<std::string_view> names;
    for (int i = 0; i < n_phases; ++i) {
        const std::string_view phase_name = name(static_cast<Phase>(i));
        EXPECT_FALSE(phase_name.empty());
        for (const std::string_view other : names)
            EXPECT_NE(other, phase_name);
        names.push_back(phase_name);
    }
}

constexpr std::array<std::string_view, 4> option_names{"strategy", "max-num-seqs", "max-model-len", "seed"};

TEST(NearestName, FindsAMisspelling) {
    EXPECT_EQ("strategy", nearest_name("stratgy", option_names));
    EXPECT_EQ("max-num-seqs", nearest_name("max-num-seq", option_names));
    EXPECT_EQ("max-num-seqs", nearest_name("max_num_seqs", option_names));
    EXPECT_EQ("seed", nearest_name("seed", option_names));
}

TEST(NearestName, SaysNothingWhereNothingIsNear) {
    EXPECT_EQ("", nearest_name("temperature", option_names));
    EXPECT_EQ("", nearest_name("", option_names));
    EXPECT_EQ("", nearest_name("seed", {}));
    EXPECT_EQ("", did_you_mean("temperature", option_names));
}

TEST(NearestName, MakesAQuestion) {
    EXPECT_NE(std::string::npos, did_you_mean("sed", option_names).find("'seed'"));
}

TEST(Bytes, MessagesComeBackAsTheyWere) {
    ByteWriter writer;
    writer.put(int64_t{-7});
    writer.put_text("caf\xc3\xa9");
    writer.put_array(std::vector<float>{1.5f, -2.0f});
    writer.put_array(std::vector<int32_t>{});
    writer.put(uint8_t{255});

    const std::vector<std::byte> message = writer.take();
    ByteReader reader(message);
    EXPECT_EQ(-7, reader.get<int64_t>());
    EXPECT_EQ("caf\xc3\xa9", reader.get_text());
    EXPECT_EQ((std::vector<float>{1.5f, -2.0f}), reader.get_array<float>());
    EXPECT_TRUE(reader.get_array<int32_t>().empty());
    EXPECT_FALSE(reader.at_end());
    EXPECT_EQ(255, reader.get<uint8_t>());
    EXPECT_TRUE(reader.at_end());
    EXPECT_THROW(reader.get<uint8_t>(), Error);
}

TEST(Bytes, ACutMessageIsAnErrorAtEveryLength) {
    ByteWriter writer;
    writer.put_array(std::vector<int64_t>{1, 2, 3});
    const std::vector<std::byte> message = writer.take();
    for (size_t n = 0; n < message.size(); ++n) {
        ByteReader reader(std::span<const std::byte>(message).first(n));
        EXPECT_THROW(reader.get_array<int64_t>(), Error) << n;
    }
}

TEST(Error, CarriesTextAndExitCode) {
    try {
        require_usage(1 > 2, "--{} {}: must be at least {}", "seed", -1, 0);
        FAIL() << "no error";
    } catch (const Error& e) {
        EXPECT_STREQ("--seed -1: must be at least 0", e.what());
        EXPECT_EQ(exit_usage, e.exit_code());
    }
    try {
        fail("cannot read {}", "x");
    } catch (const Error& e) {
        EXPECT_EQ(exit_failure, e.exit_code());
    }
    EXPECT_NO_THROW(require(true, "never seen"));
    EXPECT_EQ("No such file or directory", errno_text(ENOENT));
}

using Block = std::array<uint32_t, 4>;

// The known answers that the authors publish with their code (Random123, philox4x32 with 10 rounds).
TEST(Philox, GivesThePublishedAnswers) {
    EXPECT_EQ((Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}), philox4x32({0, 0, 0, 0}, {0, 0}));
    constexpr uint32_t ones = 0xffffffff;
    EXPECT_EQ((Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}),
              philox4x32({ones, ones, ones, ones}, {ones, ones}));
    EXPECT_EQ((Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}),
              philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}));
}

TEST(Philox, EveryPartOfTheKeyChangesTheDraw) {
    const DrawKey key{1, 2, 3, 4};
    EXPECT_EQ(uniform(key), uniform(DrawKey{1, 2, 3, 4}));
    const uint64_t high = uint64_t{1} << 40;
    for (const DrawKey& other : {DrawKey{5, 2, 3, 4}, DrawKey{1 + high, 2, 3, 4}, DrawKey{1, 5, 3, 4},
                                 DrawKey{1, 2 + high, 3, 4}, DrawKey{1, 2, 5, 4}, DrawKey{1, 2, 3, 5}}) {
        EXPECT_NE(uniform(key), uniform(other));
    }
}

TEST(Philox, DrawsSpreadEvenlyOverTheUnitInterval) {
    constexpr uint32_t n_draws = 100'000;
    std::array<int, 10> counts{};
    for (uint32_t position = 0; position < n_draws; ++position) {
        const double draw = uniform({7, 11, 0, position});
        ASSERT_TRUE(draw >= 0.0 && draw < 1.0);
        ++counts[static_cast<size_t>(draw * 10)];
    }
    // Five standard deviations of a count of 10,000 with probability 0.1 are 474.
    for (const int count : counts)
        EXPECT_NEAR(10'000, count, 474);
}

TEST(SystemMemory, SomeIsFree) {
    EXPECT_GT(available_memory_bytes(), int64_t{1} << 20);
}

}  // namespace
}  // namespace mixserve
