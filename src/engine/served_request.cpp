#include "engine/served_request.h"

#include <algorithm>

#include "base/bytes.h"

namespace mixserve::engine {
namespace {

const ServedSequence& served(const LogitUse& use) {
    return static_cast<const ServedSequence&>(*use.sequence);
}

}  // namespace

std::vector<std::byte> pack(const PreparedRequest& prepared) {
    ByteWriter out;
    out.put_array(io::pack(prepared.request));
    out.put_array(prepared.prompt_ids);
    return out.take();
}

PreparedRequest unpack_prepared(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    PreparedRequest prepared;
    prepared.request = io::unpack_request(in.get_array<std::byte>());
    prepared.prompt_ids = in.get_array<int32_t>();
    return prepared;
}

ServedRequest::ServedRequest(PreparedRequest prepared, const ServeContext& context, double now_s)
    : context_(context), request_(std::move(prepared.request)), arrived_s_(now_s) {
    const io::SamplingParams& params = request_.sampling;
    const auto n_prompt = static_cast<int64_t>(prepared.prompt_ids.size());
    const int64_t n_samples = context.scores ? 1 : params.n;
    for (int64_t i = 0; i < n_samples; ++i) {
        auto sequence = std::make_unique<ServedSequence>();
        sequence->owner = this;
        sequence->sample = static_cast<uint32_t>(i);
        sequence->tokens = prepared.prompt_ids;
        sequence->n_prompt = n_prompt;
        sequence->generates = !context.scores;
        sequence->scores_prompt = context.scores || (i == 0 && params.prompt_logprobs.has_value());
        if (!context.scores) {
            sequence->output.emplace(context.tokenizer, request_.sampling, context.eos_ids,
                                     context.max_model_len - n_prompt);
        }
        if (!context.scores && has_penalties(params)) {
            sequence->counts.emplace().add_prompt(prepared.prompt_ids);
        }
        sequences_.push_back(std::move(sequence));
    }
    n_unfinished_ = n_samples;
    if (context.scores) {
        score_ = io::score_result_of(request_);
        score_.token_ids = std::move(prepared.prompt_ids);
        if (n_prompt == 1) n_unfinished_ = 0;  // nothing before the only token
    } else {
        result_ = io::result_of(request_);
        result_.n_prompt_tokens = n_prompt;
        result_.choices.resize(static_cast<size_t>(n_samples));
    }
}

SampleInput ServedRequest::sample_input(const LogitUse& use) const {
    const ServedSequence& sequence = served(use);
    const SequenceOutput& output = *sequence.output;
    const DrawKey key{request_.sampling.seed.value_or(context_.seed), io::request_hash(request_.id),
                      sequence.sample, static_cast<uint32_t>(output.n_tokens())};
    return {{}, request_.sampling, sequence.counts ? &*sequence.counts : nullptr, output.banned(), key};
}

RowOutcome ServedRequest::read(const LogitUse& use, std::span<float> logits, Sampler& sampler) const {
    const ServedSequence& sequence = served(use);
    RowOutcome outcome;
    if (use.samples) {
        SampleInput input = sample_input(use);
        input.logits = logits;
        outcome.sampled = sampler.sample(input);
        return outcome;
    }
    const int32_t next = sequence.tokens[static_cast<size_t>(use.position + 1)];
    if (context_.scores) {
        outcome.logprob = logprob_of(logits, next);
    } else {
        outcome.prompt_logprobs = logprobs_of(logits, next, *request_.sampling.prompt_logprobs);
    }
    return outcome;
}

bool ServedRequest::apply(const LogitUse& use, const RowOutcome& outcome, double now_s) {
    if (!use.samples) return apply_prompt_row(use, outcome);
    return apply_token(static_cast<ServedSequence&>(*use.sequence), *outcome.sampled, now_s);
}

bool ServedRequest::apply_prompt_row(const LogitUse& use, const RowOutcome& outcome) {
    const ServedSequence& sequence = served(use);
    if (!context_.scores) {
        const int32_t token = sequence.tokens[static_cast<size_t>(use.position + 1)];
        result_.prompt_logprobs.push_back(with_texts(context_.tokenizer, token, *outcome.prompt_logprobs));
        return false;
    }
    score_.logprobs.push_back(outcome.logprob);
    if (static_cast<int64_t>(score_.logprobs.size()) + 1 < sequence.n_prompt) return false;
    n_unfinished_ = 0;
    return true;
}

bool ServedRequest::apply_token(ServedSequence& sequence, const Sampled& sampled, double now_s) {
    SequenceOutput& output = *sequence.output;
    if (output.n_tokens() == 0) {
        if (result_.metrics.ttft_ms == 0) result_.metrics.ttft_ms = (now_s - arrived_s_) * 1e3;
    } else {
        result_.metrics.itl_ms.push_back(static_cast<float>((now_s - sequence.last_token_s) * 1e3));
    }
    sequence.last_token_s = now_s;
    sequence.tokens.push_back(sampled.token);
    output.push(sampled);
    if (sequence.counts) sequence.counts->add_output(sampled.token);
    if (!output.finished()) return false;
    result_.choices[sequence.sample] = output.take_choice();
    result_.metrics.e2e_ms = (now_s - arrived_s_) * 1e3;
    --n_unfinished_;
    return true;
}

std::vector<std::byte> ServedRequest::take_result() {
    return context_.scores ? io::pack(score_) : io::pack(result_);
}

}  // namespace mixserve::engine
