#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence_output.h"
#include "engine/token_counts.h"
#include "io/request.h"
#include "io/result.h"
#include "text/tokenizer.h"

namespace mixserve::engine {

/// A request after its prompt has become tokens.
struct PreparedRequest {
    io::Request request;
    std::vector<int32_t> prompt_ids;
};

/// A prepared request as rank 0 sends it to the node that serves it, and back.
std::vector<std::byte> pack(const PreparedRequest& prepared);
PreparedRequest unpack_prepared(std::span<const std::byte> bytes);

/// What all requests of a job have in common.
struct ServeContext {
    const text::Tokenizer& tokenizer;
    std::vector<int32_t> eos_ids;
    int64_t max_model_len = 0;
    uint64_t seed = 0;    // of requests that have none
    bool scores = false;  // `score`: log-probabilities of the prompt, nothing is generated
};

class ServedRequest;

/// One of a request's n samples, as the scheduler and the sampler see it.
struct ServedSequence : ScheduledSequence {
    ServedRequest* owner = nullptr;
    uint32_t sample = 0;
    std::optional<SequenceOutput> output;  // not with `scores`
    std::optional<TokenCounts> counts;     // where there are penalties
    double last_token_s = 0;
};

/// What was read from one row of logits; made by any thread, applied in order.
struct RowOutcome {
    std::optional<Sampled> sampled;
    std::optional<Logprobs> prompt_logprobs;
    float logprob = 0;  // with `scores`
};

/// A request on the node that serves it: from its tokens to what its row needs.
class ServedRequest {
  public:
    /// `context` is borrowed; `now_s`: when the node took it.
    ServedRequest(PreparedRequest prepared, const ServeContext& context, double now_s);
    ServedRequest(const ServedRequest&) = delete;
    ServedRequest& operator=(const ServedRequest&) = delete;

    std::span<const std::unique_ptr<ServedSequence>> sequences() const { return sequences_; }

    /// How the token of a row that samples is drawn; without its logits.
    SampleInput sample_input(const LogitUse& use) const;
    /// Reads a row of logits [vocab_size], which is overwritten. Changes nothing: rows of a step may be read
    /// at once.
    RowOutcome read(const LogitUse& use, std::span<float> logits, Sampler& sampler) const;
    /// Takes what was read, in the order of the rows. True when the row's sequence has finished.
    bool apply(const LogitUse& use, const RowOutcome& outcome, double now_s);

    bool finished() const { return n_unfinished_ == 0; }
    /// The result, packed for rank 0. After finished(), once.
    std::vector<std::byte> take_result();

  private:
    bool apply_prompt_row(const LogitUse& use, const RowOutcome& outcome);
    bool apply_token(ServedSequence& sequence, const Sampled& sampled, double now_s);

    const ServeContext& context_;
    io::Request request_;
    std::vector<std::unique_ptr<ServedSequence>> sequences_;
    int64_t n_unfinished_ = 0;
    double arrived_s_ = 0;
    io::Result result_;
    io::ScoreResult score_;
};

}  // namespace mixserve::engine
