#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace mixserve::engine {

Scheduler::Scheduler(const SchedulerLimits& limits, BlockPool& pool) : limits_(limits), pool_(pool) {}

void Scheduler::add(ScheduledSequence& sequence) {
    waiting_.push_back(&sequence);
}

bool Scheduler::preempt_one_after(const ScheduledSequence& sequence) {
    for (size_t i = running_.size(); i-- > 0 && running_[i] != &sequence;) {
        ScheduledSequence* victim = running_[i];
        if (victim->awaited) continue;
        running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
        std::erase_if(planned_, [&](const Planned& p) { return p.sequence == victim; });
        pool_.release(victim->blocks);
        victim->n_computed = 0;
        waiting_.push_front(victim);
        ++n_preemptions_;
        return true;
    }
    return false;
}

bool Scheduler::make_room(ScheduledSequence& sequence, int64_t n_tokens) {
    while (!pool_.grow(sequence.blocks, n_tokens)) {
        if (!preempt_one_after(sequence)) return false;
    }
    return true;
}

int64_t Scheduler::n_planned_rows() const {
    int64_t n = 0;
    for (const Planned& p : planned_)
        n += p.n_tokens;
    return n;
}

void Scheduler::plan_running(bool decoding, int64_t n_rows_left) {
    for (size_t i = 0; i < running_.size() && n_rows_left > 0; ++i) {  // running_ may shrink behind i
        ScheduledSequence& s = *running_[i];
        const int64_t n_missing = s.n_missing();
        if (n_missing == 0 || (n_missing == 1) != decoding) continue;
        const int64_t n = std::min(n_missing, n_rows_left);
        if (!make_room(s, s.n_computed + n)) continue;
        planned_.push_back({&s, n});
        n_rows_left -= n;
    }
}

void Scheduler::admit() {
    int64_t n_rows_left = limits_.max_num_batched_tokens - n_planned_rows();
    while (!waiting_.empty() && n_rows_left > 0 && n_running() < limits_.max_num_seqs) {
        ScheduledSequence& next = *waiting_.front();
        // The whole of it, and a block to go on with, so that it is not thrown out again at once.
        const bool fits = pool_.blocks_for(next.n_tokens() + 1) <= pool_.n_free() || running_.empty();
        const int64_t n = std::min(next.n_tokens(), n_rows_left);
        if (!fits || !pool_.grow(next.blocks, n)) return;
        waiting_.pop_front();
        running_.push_back(&next);
        planned_.push_back({&next, n});
        n_rows_left -= n;
    }
}

void Scheduler::emit(const Planned& planned, StepPlan& plan) {
    ScheduledSequence& s = *planned.sequence;
    model::Batch& batch = plan.batch;
    kernels::SequenceRows rows;
    rows.first_row = batch.n_tokens();
    rows.n_tokens = planned.n_tokens;
    rows.first_position = s.n_computed;
    batch.sequences.push_back(rows);
    batch.block_tables.insert(batch.block_tables.end(), s.blocks.begin(), s.blocks.end());
    (s.n_computed >= s.n_prompt ? plan.n_decode : plan.n_prefill) += planned.n_tokens;
    for (int64_t i = 0; i < planned.n_tokens; ++i) {
        const int64_t position = s.n_computed + i;
        const int64_t row = batch.n_tokens();
        batch.tokens.push_back(s.tokens[static_cast<size_t>(position)]);
        batch.positions.push_back(static_cast<int32_t>(position));
        const bool scores = s.scores_prompt && position + 1 < s.n_prompt && position >= s.n_scored;
        const bool samples = s.generates && position + 1 == s.n_tokens();
        if (scores || samples) {
            batch.logit_rows.push_back(static_cast<int32_t>(row));
            plan.uses.push_back({&s, position, samples});
        }
        if (scores) s.n_scored = position + 1;
        if (samples) s.awaited = true;
    }
    s.n_computed += planned.n_tokens;
}

StepPlan Scheduler::plan() {
    planned_.clear();
    // Decoding first: a long prompt must not hold up the tokens of others. With a pipeline each step takes
    // its share.
    const int64_t n_decode_rows = std::min(
        limits_.max_num_batched_tokens, (n_running() + limits_.pipeline_depth - 1) / limits_.pipeline_depth);
    plan_running(true, n_decode_rows);
    plan_running(false, limits_.max_num_batched_tokens - n_planned_rows());
    admit();

    StepPlan plan;
    for (const Planned& planned : planned_)
        emit(planned, plan);
    const int32_t* table = plan.batch.block_tables.data();
    for (size_t i = 0; i < planned_.size(); ++i) {
        plan.batch.sequences[i].block_table = table;
        table += planned_[i].sequence->blocks.size();
    }
    return plan;
}

void Scheduler::commit(const StepPlan& plan) {
    for (const LogitUse& use : plan.uses) {
        if (use.samples) use.sequence->awaited = false;
    }
}

void Scheduler::finish(ScheduledSequence& sequence) {
    MIXSERVE_ASSERT(!sequence.awaited);
    pool_.release(sequence.blocks);
    std::erase(running_, &sequence);
    std::erase(waiting_, &sequence);
}

int64_t Scheduler::free_places() const {
    return std::max<int64_t>(0, limits_.max_num_seqs - n_running() - n_waiting());
}

int64_t Scheduler::free_rows() const {
    int64_t n = limits_.max_num_batched_tokens;
    for (const ScheduledSequence* s : running_)
        n -= std::max<int64_t>(1, s->n_missing());
    for (const ScheduledSequence* s : waiting_)
        n -= s->n_missing();
    return std::max<int64_t>(0, n);
}

}  // namespace mixserve::engine
