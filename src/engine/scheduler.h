#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "engine/block_pool.h"
#include "model/batch.h"

namespace mixserve::engine {

/// A sequence as the scheduler sees it: its tokens, how many of them are in the KV cache, and its blocks.
struct ScheduledSequence {
    int64_t id = 0;
    std::vector<int32_t> tokens;  // the prompt, then what was generated
    int64_t n_prompt = 0;
    int64_t n_computed = 0;      // tokens whose keys and values are in the cache
    int64_t n_scored = 0;        // prompt positions whose logits have been used (with `scores_prompt`)
    bool scores_prompt = false;  // logits of all prompt positions are wanted
    bool generates = true;       // logits after the last token are wanted
    std::vector<int32_t> blocks;

    int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
};

/// What a row of logits is for.
struct LogitUse {
    ScheduledSequence* sequence = nullptr;
    int64_t position = 0;  // of the token whose row it is; the logits are of position + 1
    bool samples =
        false;  // the next token is drawn from it; else it scores the prompt's token at position + 1
};

struct SchedulerLimits {
    int64_t max_num_seqs = 64;              // sequences running at once
    int64_t max_num_batched_tokens = 2048;  // rows of a step
};

/// Chooses which tokens go into each step (continuous batching, Orca: Yu et al. 2022; chunked prefill,
/// Sarathi: Agrawal et al. 2023): running sequences first, in order of arrival, then waiting ones while rows,
/// places and blocks last. A running sequence that finds no block takes those of the one that arrived last,
/// which waits and is computed again later.
class Scheduler {
  public:
    Scheduler(const SchedulerLimits& limits, BlockPool& pool);

    /// Sequences are borrowed until finish().
    void add(ScheduledSequence& sequence);
    /// The next step's batch and the use of its logit rows. An empty batch: nothing to do.
    void plan(model::Batch& batch, std::vector<LogitUse>& uses);
    /// After the step: what was planned is now in the cache.
    void commit();
    /// The sequence leaves; its blocks are free. Between commit() and plan().
    void finish(ScheduledSequence& sequence);

    int64_t n_running() const { return static_cast<int64_t>(running_.size()); }
    int64_t n_waiting() const { return static_cast<int64_t>(waiting_.size()); }
    bool idle() const { return running_.empty() && waiting_.empty(); }
    /// Sequences that could start in the next step, and the prompt tokens that its rows have room for.
    int64_t free_places() const;
    int64_t free_rows() const;
    int64_t n_preemptions() const { return n_preemptions_; }
    int64_t n_planned_prefill() const { return n_planned_prefill_; }
    int64_t n_planned_decode() const { return n_planned_decode_; }

  private:
    struct Planned {
        ScheduledSequence* sequence;
        int64_t n_tokens;
    };
    bool make_room(ScheduledSequence& sequence, int64_t n_tokens);
    void preempt_last();
    void plan_running(bool decoding, int64_t& n_rows_left);
    void admit(int64_t& n_rows_left);
    void emit(const Planned& planned, model::Batch& batch, std::vector<LogitUse>& uses);

    SchedulerLimits limits_;
    BlockPool& pool_;
    std::vector<ScheduledSequence*> running_;  // by arrival
    std::deque<ScheduledSequence*> waiting_;
    std::vector<Planned> planned_;
    int64_t n_preemptions_ = 0;
    int64_t n_planned_prefill_ = 0;
    int64_t n_planned_decode_ = 0;
};

}  // namespace mixserve::engine
