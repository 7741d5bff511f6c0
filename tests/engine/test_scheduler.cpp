#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <random>
#include <set>

#include "engine/batch_message.h"
#include "engine/scheduler.h"

namespace mixserve::engine {
namespace {

ScheduledSequence sequence(int64_t id, int64_t n_prompt) {
    ScheduledSequence s;
    s.id = id;
    s.tokens.resize(static_cast<size_t>(n_prompt));
    std::iota(s.tokens.begin(), s.tokens.end(), static_cast<int32_t>(100 * id));
    s.n_prompt = n_prompt;
    return s;
}

TEST(BlockPool, GrowsAndReleases) {
    BlockPool pool(4, 16);
    std::vector<int32_t> blocks;
    EXPECT_TRUE(pool.grow(blocks, 17));
    EXPECT_EQ(blocks, (std::vector<int32_t>{0, 1}));
    EXPECT_TRUE(pool.grow(blocks, 32)) << "no block is missing";
    EXPECT_FALSE(pool.grow(blocks, 65));
    EXPECT_EQ(blocks.size(), 2u) << "a refusal changes nothing";
    pool.release(blocks);
    EXPECT_TRUE(blocks.empty());
    EXPECT_EQ(pool.n_free(), 4);
}

TEST(Scheduler, CutsALongPromptIntoPiecesThatFitTheStep) {
    BlockPool pool(100, 4);
    Scheduler scheduler({8, 10}, pool);
    ScheduledSequence s = sequence(1, 25);
    scheduler.add(s);
    StepPlan plan;
    std::vector<int64_t> pieces;
    while (s.n_computed < 25) {
        plan = scheduler.plan();
        pieces.push_back(plan.batch.n_tokens());
        EXPECT_EQ(plan.batch.positions.front() + plan.batch.n_tokens(), s.n_computed);
        EXPECT_EQ(plan.uses.size(), s.n_computed == 25 ? 1u : 0u);
        Scheduler::commit(plan);
    }
    EXPECT_EQ(pieces, (std::vector<int64_t>{10, 10, 5}));
    EXPECT_TRUE(plan.uses[0].samples);
    EXPECT_EQ(plan.uses[0].position, 24);
}

TEST(Scheduler, DecodingGoesBeforeALongPrompt) {
    BlockPool pool(100, 4);
    Scheduler scheduler({8, 4}, pool);
    ScheduledSequence prompt = sequence(1, 40);
    ScheduledSequence decoding = sequence(2, 2);
    scheduler.add(decoding);
    StepPlan plan;
    plan = scheduler.plan();
    Scheduler::commit(plan);
    decoding.tokens.push_back(7);
    scheduler.add(prompt);
    plan = scheduler.plan();
    EXPECT_EQ(plan.batch.tokens, (std::vector<int32_t>{7, 100, 101, 102}));
    EXPECT_EQ(plan.n_decode, 1);
    EXPECT_EQ(plan.n_prefill, 3);
}

TEST(Scheduler, ScoresEveryPromptPositionOnce) {
    BlockPool pool(100, 4);
    Scheduler scheduler({8, 3}, pool);
    ScheduledSequence s = sequence(1, 8);
    s.scores_prompt = true;
    s.generates = false;
    scheduler.add(s);
    StepPlan plan;
    std::vector<int64_t> scored;
    while (s.n_computed < 8) {
        plan = scheduler.plan();
        for (const LogitUse& use : plan.uses) {
            EXPECT_FALSE(use.samples);
            scored.push_back(use.position);
        }
        Scheduler::commit(plan);
    }
    EXPECT_EQ(scored, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(Scheduler, WaitsForRoomAndTakesItFromTheLast) {
    BlockPool pool(4, 4);
    Scheduler scheduler({8, 100}, pool);
    ScheduledSequence first = sequence(1, 7);
    ScheduledSequence second = sequence(2, 7);
    scheduler.add(first);
    scheduler.add(second);
    StepPlan plan;
    plan = scheduler.plan();
    EXPECT_EQ(scheduler.n_running(), 2);
    Scheduler::commit(plan);
    for (int i = 0; i < 2; ++i) {  // both grow past their blocks at the second token
        first.tokens.push_back(1);
        second.tokens.push_back(2);
        plan = scheduler.plan();
        Scheduler::commit(plan);
    }
    EXPECT_EQ(scheduler.n_preemptions(), 1);
    EXPECT_EQ(scheduler.n_running(), 1);
    EXPECT_EQ(scheduler.n_waiting(), 1);
    EXPECT_EQ(second.n_computed, 0);
    EXPECT_TRUE(second.blocks.empty());
    scheduler.finish(first);
    plan = scheduler.plan();
    EXPECT_EQ(plan.batch.n_tokens(), 9) << "prompt and generated tokens are computed again";
    ASSERT_EQ(plan.uses.size(), 1u);
    EXPECT_TRUE(plan.uses[0].samples);
}

/// Random arrivals and lengths against what must always hold: no block with two owners, rows within the
/// limit, every sequence ends with all its tokens computed in order.
TEST(Scheduler, SeveralStepsInFlightShareTheSequences) {
    BlockPool pool(100, 4);
    Scheduler scheduler({8, 10, 2}, pool);
    std::vector<ScheduledSequence> all{sequence(1, 2), sequence(2, 2), sequence(3, 2), sequence(4, 23)};
    for (ScheduledSequence& s : all)
        scheduler.add(s);
    StepPlan first = scheduler.plan();
    EXPECT_EQ(first.batch.n_tokens(), 10) << "three prompts and a piece of the fourth";
    StepPlan second = scheduler.plan();
    EXPECT_EQ(second.batch.n_tokens(), 10) << "the next piece needs no result of the first";
    EXPECT_TRUE(second.uses.empty());
    for (const LogitUse& use : first.uses)
        use.sequence->tokens.push_back(1);
    Scheduler::commit(first);
    StepPlan third = scheduler.plan();
    EXPECT_EQ(third.n_decode, 2) << "half of the four running";
    StepPlan fourth = scheduler.plan();
    EXPECT_EQ(fourth.n_decode, 1);
    EXPECT_TRUE(scheduler.plan().empty()) << "all are awaited";
}

TEST(Scheduler, RandomLoadsKeepTheInvariants) {
    std::mt19937 random(5);
    for (int round = 0; round < 50; ++round) {
        const int64_t n_blocks = 6 + static_cast<int64_t>(random() % 20);
        BlockPool pool(n_blocks, 4);
        const SchedulerLimits limits{1 + static_cast<int64_t>(random() % 6),
                                     1 + static_cast<int64_t>(random() % 12)};
        Scheduler scheduler(limits, pool);
        std::vector<std::unique_ptr<ScheduledSequence>> all;
        std::vector<int64_t> n_wanted;
        for (int64_t i = 0; i < 12; ++i) {
            const auto n_prompt = static_cast<int64_t>(1 + random() % 14);
            all.push_back(std::make_unique<ScheduledSequence>(sequence(i, n_prompt)));
            n_wanted.push_back(n_prompt + 1 + static_cast<int64_t>(random() % 9));
            scheduler.add(*all.back());
        }
        int n_finished = 0;
        StepPlan plan;
        for (int step = 0; step < 20000 && n_finished < 12; ++step) {
            plan = scheduler.plan();
            ASSERT_GT(plan.batch.n_tokens(), 0);
            ASSERT_LE(plan.batch.n_tokens(), limits.max_num_batched_tokens);
            ASSERT_LE(scheduler.n_running(), limits.max_num_seqs);
            std::multiset<int32_t> owned;
            for (const auto& s : all)
                owned.insert(s->blocks.begin(), s->blocks.end());
            for (const int32_t block : owned)
                ASSERT_EQ(owned.count(block), 1u);
            ASSERT_EQ(static_cast<int64_t>(owned.size()), pool.n_used());
            const model::Batch copy = unpack_batch(pack(plan.batch));
            ASSERT_EQ(copy.tokens, plan.batch.tokens);
            for (size_t i = 0; i < plan.batch.sequences.size(); ++i) {
                ASSERT_EQ(copy.sequences[i].block_table[0], plan.batch.sequences[i].block_table[0]);
            }
            Scheduler::commit(plan);
            for (const LogitUse& use : plan.uses) {
                ScheduledSequence& s = *use.sequence;
                ASSERT_EQ(use.position + 1, s.n_tokens());
                ASSERT_EQ(s.n_computed, s.n_tokens());
                s.tokens.push_back(1);
                if (s.n_tokens() < n_wanted[static_cast<size_t>(s.id)]) continue;
                scheduler.finish(s);
                ++n_finished;
            }
        }
        ASSERT_EQ(n_finished, 12);
        ASSERT_EQ(pool.n_free(), n_blocks);
        ASSERT_TRUE(scheduler.idle());
    }
}

}  // namespace
}  // namespace mixserve::engine
