#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/philox.h"
#include "engine/log_softmax.h"
#include "engine/token_counts.h"
#include "io/sampling_params.h"

namespace mixserve::engine {

/// Below this temperature the most likely token is taken, as in vLLM.
inline constexpr double greedy_temperature = 1e-5;

/// One position that is to be sampled. All borrowed.
struct SampleInput {
    std::span<float> logits;  // [vocab_size], raw; overwritten. GpuSampler has them itself
    const io::SamplingParams& params;
    const TokenCounts* counts = nullptr;  // needed with has_penalties(params)
    std::span<const int32_t> banned{};    // must not come (while fewer than min_tokens have)
    DrawKey key{};
};

struct Sampled {
    int32_t token = 0;
    std::optional<Logprobs> logprobs;  // of the raw distribution, with params.logprobs
};

/// Draws the token of a position: bans, penalties, temperature, min_p, top_k (with all equals of the last),
/// top_p over what those leave, then one draw, as vLLM orders them; greedy ties go to the lowest id. Depends
/// on nothing but its input. Holds memory for its work: one a thread, used again for every position.
class Sampler {
  public:
    /// Error when a logit is not finite, or every token is banned.
    Sampled sample(const SampleInput& input);

  private:
    struct Candidate {
        float logit;
        int32_t token;
        float weight;  // its probability times a constant
    };
    /// What a draw is made from.
    struct Distribution {
        std::span<const float> logits;
        float largest;  // of them
        float scale;    // 1 / temperature
        float lowest;   // logits below it are out (min_p, bans)
    };

    /// Best first, then by id.
    static bool better(const Candidate& a, const Candidate& b);
    static bool by_id(const Candidate& a, const Candidate& b);
    int32_t draw(const Distribution& d, const io::SamplingParams& params, double u);
    int32_t draw_from_all(const Distribution& d, double u);
    int32_t draw_from_candidates(double u);
    void select_largest(const Distribution& d, size_t n);
    void drop_below_largest(size_t n);
    static double mass_of(const std::vector<Candidate>& candidates);
    static size_t n_with_mass(const std::vector<Candidate>& sorted, double mass);
    void keep_top_p(const Distribution& d, double top_p);
    void take_candidates(const Distribution& d, float bound);

    std::vector<Candidate> candidates_;
    std::vector<Candidate> cut_;  // those among which top_p is reached
    std::vector<float> weights_;  // of all tokens
    std::vector<int32_t> indices_;
    std::vector<float> raw_;  // logits as they came
    std::vector<double> block_sums_;
};

}  // namespace mixserve::engine
