#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "engine/block_pool.h"
#include "model/batch.h"

namespace mixserve::engine {

/// A sequence as the scheduler sees it: its tokens, how many of them are in the KV cache, and its blocks.
struct ScheduledSequence {
    int64_t id = 0;
    std::vector<int32_t> tokens;  // the prompt, then what was generated
    int64_t n_prompt = 0;
    int64_t n_computed = 0;      // tokens whose keys and values are in the cache, or on their way there
    int64_t n_scored = 0;        // prompt positions whose logits were asked for (with `scores_prompt`)
    bool scores_prompt = false;  // logits of all prompt positions are wanted
    bool generates = true;       // logits after the last token are wanted
    bool awaited = false;        // a planned row draws its next token, and the step has not ended
    std::vector<int32_t> blocks;

    int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
    int64_t n_missing() const { return awaited ? 0 : n_tokens() - n_computed; }
};

/// What a row of logits is for.
struct LogitUse {
    ScheduledSequence* sequence = nullptr;
    int64_t position = 0;  // of the token whose row it is; the logits are of position + 1
    bool samples =
        false;  // the next token is drawn from it; else it scores the prompt's token at position + 1
};

/// One step: the batch, and the use of each of its logit rows.
struct StepPlan {
    model::Batch batch;
    std::vector<LogitUse> uses;
    int64_t n_prefill = 0;  // rows of prompts, and of sequences that are computed again
    int64_t n_decode = 0;
    bool empty() const { return batch.tokens.empty(); }
};

struct SchedulerLimits {
    int64_t max_num_seqs = 64;              // sequences running at once
    int64_t max_num_batched_tokens = 2048;  // rows of a step
    int64_t pipeline_depth = 1;             // steps in flight; decoding sequences are dealt between them
};

/// Chooses which tokens go into each step (continuous batching, Orca: Yu et al. 2022; chunked prefill,
/// Sarathi: Agrawal et al. 2023): running sequences first, decoding ones before prompts, then waiting ones
/// while rows, places and blocks last. A running sequence that finds no block takes those of the one that
/// arrived last, which waits and is computed again.
class Scheduler {
  public:
    Scheduler(const SchedulerLimits& limits, BlockPool& pool);

    /// Sequences are borrowed until finish().
    void add(ScheduledSequence& sequence);
    /// The next step. Several may be in flight: a sequence whose next token is awaited is left out.
    StepPlan plan();
    /// The step has ended and its tokens are appended: its sequences can be planned again.
    static void commit(const StepPlan& plan);
    /// The sequence leaves, not awaited; its blocks are free.
    void finish(ScheduledSequence& sequence);

    int64_t n_running() const { return static_cast<int64_t>(running_.size()); }
    int64_t n_waiting() const { return static_cast<int64_t>(waiting_.size()); }
    bool idle() const { return running_.empty() && waiting_.empty(); }
    /// Sequences that could start in the next step, and the prompt tokens that its rows have room for.
    int64_t free_places() const;
    int64_t free_rows() const;
    int64_t n_preemptions() const { return n_preemptions_; }

  private:
    struct Planned {
        ScheduledSequence* sequence;
        int64_t n_tokens;
    };
    bool make_room(ScheduledSequence& sequence, int64_t n_tokens);
    bool preempt_one_after(const ScheduledSequence& sequence);
    void plan_running(bool decoding, int64_t n_rows_left);
    void admit();
    int64_t n_planned_rows() const;
    void emit(const Planned& planned, StepPlan& plan);

    SchedulerLimits limits_;
    BlockPool& pool_;
    std::vector<ScheduledSequence*> running_;  // by arrival
    std::deque<ScheduledSequence*> waiting_;
    std::vector<Planned> planned_;  // of the step that is being planned
    int64_t n_preemptions_ = 0;
};

}  // namespace mixserve::engine
