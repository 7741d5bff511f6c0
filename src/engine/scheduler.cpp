#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace mixserve::engine {

Scheduler::Scheduler(const SchedulerLimits& limits, BlockPool& pool) : limits_(limits), pool_(pool) {}

void Scheduler::add(ScheduledSequence& sequence) {
    waiting_.push_back(&sequence);
}

void Scheduler::preempt_last() {
    ScheduledSequence* last = running_.back();
    running_.pop_back();
    std::erase_if(planned_, [&](const Planned& p) { return p.sequence == last; });
    pool_.release(last->blocks);
    last->n_computed = 0;
    waiting_.push_front(last);
    ++n_preemptions_;
}

bool Scheduler::make_room(ScheduledSequence& sequence, int64_t n_tokens) {
    while (!pool_.grow(sequence.blocks, n_tokens)) {
        if (running_.back() == &sequence) return false;
        preempt_last();
    }
    return true;
}

void Scheduler::admit(int64_t& n_rows_left) {
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

void Scheduler::plan_running(bool decoding, int64_t& n_rows_left) {
    for (size_t i = 0; i < running_.size() && n_rows_left > 0; ++i) {  // running_ may shrink at its end
        ScheduledSequence& s = *running_[i];
        const int64_t n_missing = s.n_tokens() - s.n_computed;
        if ((n_missing == 1) != decoding) continue;
        const int64_t n = std::min(n_missing, n_rows_left);
        if (!make_room(s, s.n_computed + n)) continue;
        planned_.push_back({&s, n});
        n_rows_left -= n;
    }
}

void Scheduler::emit(const Planned& planned, model::Batch& batch, std::vector<LogitUse>& uses) {
    ScheduledSequence& s = *planned.sequence;
    kernels::SequenceRows rows;
    rows.first_row = batch.n_tokens();
    rows.n_tokens = planned.n_tokens;
    rows.first_position = s.n_computed;
    batch.sequences.push_back(rows);
    batch.block_tables.insert(batch.block_tables.end(), s.blocks.begin(), s.blocks.end());
    const bool decodes = s.n_computed >= s.n_prompt;
    (decodes ? n_planned_decode_ : n_planned_prefill_) += planned.n_tokens;
    for (int64_t i = 0; i < planned.n_tokens; ++i) {
        const int64_t position = s.n_computed + i;
        const int64_t row = batch.n_tokens();
        batch.tokens.push_back(s.tokens[static_cast<size_t>(position)]);
        batch.positions.push_back(static_cast<int32_t>(position));
        const bool scores = s.scores_prompt && position + 1 < s.n_prompt && position >= s.n_scored;
        const bool samples = s.generates && position + 1 == s.n_tokens();
        if (scores || samples) {
            batch.logit_rows.push_back(static_cast<int32_t>(row));
            uses.push_back({&s, position, samples});
        }
        if (scores) s.n_scored = position + 1;
    }
}

void Scheduler::plan(model::Batch& batch, std::vector<LogitUse>& uses) {
    batch = {};
    uses.clear();
    planned_.clear();
    n_planned_prefill_ = n_planned_decode_ = 0;
    int64_t n_rows_left = limits_.max_num_batched_tokens;
    plan_running(true, n_rows_left);  // a long prompt must not hold up the tokens of others
    plan_running(false, n_rows_left);
    admit(n_rows_left);
    for (const Planned& planned : planned_)
        emit(planned, batch, uses);

    const int32_t* table = batch.block_tables.data();
    for (size_t i = 0; i < planned_.size(); ++i) {
        batch.sequences[i].block_table = table;
        table += planned_[i].sequence->blocks.size();
    }
}

void Scheduler::commit() {
    for (const Planned& planned : planned_)
        planned.sequence->n_computed += planned.n_tokens;
    planned_.clear();
}

void Scheduler::finish(ScheduledSequence& sequence) {
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
        n -= s->n_tokens() - s->n_computed;
    for (const ScheduledSequence* s : waiting_)
        n -= s->n_tokens() - s->n_computed;
    return std::max<int64_t>(0, n);
}

}  // namespace mixserve::engine
