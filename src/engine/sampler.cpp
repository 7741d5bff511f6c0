#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/error.h"
#include "engine/log_softmax.h"
#include "kernels/logits.h"

namespace mixserve::engine {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr size_t block_size = 1024;
constexpr float lightest_exponent = -87;  // below it, sum_of_exp() counts 0

void check_ids(std::span<const int32_t> ids, size_t vocab_size) {
    for (const int32_t id : ids) {
        require(id >= 0 && static_cast<size_t>(id) < vocab_size,
                "token id {} is out of range: the vocabulary has {} tokens", id, vocab_size);
    }
}

}  // namespace

bool Sampler::better(const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

bool Sampler::by_id(const Candidate& a, const Candidate& b) {
    return a.token < b.token;
}

Sampled Sampler::sample(const SampleInput& input) {
    const io::SamplingParams& params = input.params;
    const std::span<float> logits = input.logits;
    const bool penalised = has_penalties(params);
    float largest = largest_finite(logits);
    if (params.logprobs && (penalised || !input.banned.empty())) raw_.assign(logits.begin(), logits.end());

    if (penalised) {
        require(input.counts != nullptr, "penalties need the counts of a sequence's tokens");
        input.counts->penalise(logits, params);
        largest = largest_finite(logits);
    }
    if (!input.banned.empty()) {
        check_ids(input.banned, logits.size());
        for (const int32_t id : input.banned)
            logits[static_cast<size_t>(id)] = -infinity;
        largest = kernels::look_at(logits).largest;
        require(largest > -infinity, "all {} tokens are banned at this position", logits.size());
    }

    Sampled sampled;
    if (params.temperature < greedy_temperature) {
        sampled.token =
            static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
    } else {
        float lowest = std::numeric_limits<float>::lowest();
        if (params.min_p > 0)
            lowest = std::max(lowest, static_cast<float>(static_cast<double>(largest) +
                                                         params.temperature * std::log(params.min_p)));
        // Rounding must not shut out the largest itself.
        lowest = std::min(lowest, largest);
        const Distribution d{logits, largest, static_cast<float>(1 / params.temperature), lowest};
        sampled.token = draw(d, params, uniform(input.key));
    }
    if (params.logprobs) {
        const bool changed = penalised || !input.banned.empty();
        sampled.logprobs =
            logprobs_of(changed ? std::span<const float>(raw_) : logits, sampled.token, *params.logprobs);
    }
    return sampled;
}

int32_t Sampler::draw(const Distribution& d, const io::SamplingParams& params, double u) {
    const bool limits_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < d.logits.size();
    if (!limits_k && params.top_p >= 1) return draw_from_all(d, u);
    if (limits_k) {
        select_largest(d, static_cast<size_t>(params.top_k));
        if (params.top_p < 1) {
            candidates_.resize(n_with_mass(candidates_, mass_of(candidates_) * params.top_p));
        }
    } else {
        keep_top_p(d, params.top_p);
    }
    return draw_from_candidates(u);
}

// Sums of blocks, then the block in which the draw falls.
int32_t Sampler::draw_from_all(const Distribution& d, double u) {
    block_sums_.clear();
    weights_.resize(d.logits.size());
    double mass = 0;
    for (size_t first = 0; first < d.logits.size(); first += block_size) {
        const auto block = d.logits.subspan(first, std::min(block_size, d.logits.size() - first));
        block_sums_.push_back(kernels::sum_of_exp(block, d.largest, d.scale, d.lowest, &weights_[first]));
        mass += block_sums_.back();
    }
    const double target = u * mass;
    double before = 0;
    size_t block = 0;
    size_t last_with_mass = 0;
    for (; block < block_sums_.size(); ++block) {
        if (block_sums_[block] > 0) last_with_mass = block;
        if (before + block_sums_[block] > target) break;
        before += block_sums_[block];
    }
    block = std::min(block, last_with_mass);
    const size_t first = block * block_size;
    const size_t end = std::min(first + block_size, d.logits.size());
    size_t token = first;
    for (size_t i = first; i < end; ++i) {
        if (weights_[i] <= 0) continue;
        token = i;
        before += static_cast<double>(weights_[i]);
        if (before > target) break;
    }
    return static_cast<int32_t>(token);
}

// In the order of ids, so that logits that differ by rounding (of another layout) move the bounds a little
// and nothing else.
int32_t Sampler::draw_from_candidates(double u) {
    if (!std::is_sorted(candidates_.begin(), candidates_.end(), by_id))
        std::sort(candidates_.begin(), candidates_.end(), by_id);
    const double target = u * mass_of(candidates_);
    double sum = 0;
    int32_t token = candidates_.front().token;
    for (const Candidate& candidate : candidates_) {
        if (candidate.weight <= 0) continue;
        token = candidate.token;
        sum += static_cast<double>(candidate.weight);
        if (sum > target) break;
    }
    return token;
}

// candidates_ <- the n largest of those that are in, with all equals of the last; best first, then by id.
void Sampler::select_largest(const Distribution& d, size_t n) {
    candidates_.clear();
    float lowest = d.lowest;
    size_t next_drop = 4 * n + 256;
    indices_.resize(block_size);
    for (size_t first = 0; first < d.logits.size(); first += block_size) {
        const auto block = d.logits.subspan(first, std::min(block_size, d.logits.size() - first));
        const int64_t n_found = kernels::indices_at_least(block, lowest, indices_.data());
        for (const int32_t i : std::span(indices_).first(static_cast<size_t>(n_found)))
            candidates_.push_back({block[static_cast<size_t>(i)], static_cast<int32_t>(first) + i, 0});
        if (candidates_.size() < next_drop) continue;
        drop_below_largest(n);
        lowest = std::min_element(candidates_.begin(), candidates_.end(),
                                  [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; })
                     ->logit;
        next_drop = 2 * candidates_.size() + 256;
    }
    drop_below_largest(n);
    std::sort(candidates_.begin(), candidates_.end(), better);
    for (Candidate& candidate : candidates_) {
        const float x = (candidate.logit - d.largest) * d.scale;
        candidate.weight = x >= lightest_exponent ? std::exp(x) : 0;
    }
}

void Sampler::drop_below_largest(size_t n) {
    if (candidates_.size() <= n) return;
    const auto nth = candidates_.begin() + static_cast<std::ptrdiff_t>(n) - 1;
    std::nth_element(candidates_.begin(), nth, candidates_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
    const float lowest = nth->logit;
    std::erase_if(candidates_, [lowest](const Candidate& candidate) { return candidate.logit < lowest; });
}

double Sampler::mass_of(const std::vector<Candidate>& candidates) {
    double mass = 0;
    for (const Candidate& candidate : candidates)
        mass += static_cast<double>(candidate.weight);
    return mass;
}

// How many of the sorted candidates, at least one where there are any, have `mass` together.
size_t Sampler::n_with_mass(const std::vector<Candidate>& sorted, double mass) {
    double sum = 0;
    for (size_t i = 0; i < sorted.size(); ++i) {
        sum += static_cast<double>(sorted[i].weight);
        if (sum >= mass) return i + 1;
    }
    return sorted.size();
}

// Tokens lighter than 1 / n of half the mass that may be left out are not needed to reach top_p, and mostly
// far fewer are: the candidates are those above a bound that falls until they have the mass. It goes into
// bins by logit, and only those in the bin where top_p is reached are sorted.
void Sampler::keep_top_p(const Distribution& d, double top_p) {
    constexpr size_t n_bins = 256;
    constexpr float bins_a_nat = n_bins / (1 - lightest_exponent);
    const auto bin_of = [&](float logit) {
        return static_cast<size_t>((d.largest - logit) * d.scale * bins_a_nat);
    };
    weights_.resize(d.logits.size());
    const double mass = kernels::sum_of_exp(d.logits, d.largest, d.scale, d.lowest, weights_.data());
    const double target = mass * top_p;
    const double unneeded = (mass - target) / static_cast<double>(2 * d.logits.size());
    const float lightest = std::max(std::numeric_limits<float>::min(), static_cast<float>(unneeded));
    float bound = 1;
    do {
        bound = std::max(lightest, bound / 256);
        take_candidates(d, bound);
    } while (bound > lightest && mass_of(candidates_) < target);

    std::array<double, n_bins> masses{};
    for (const Candidate& candidate : candidates_)
        masses[bin_of(candidate.logit)] += static_cast<double>(candidate.weight);
    size_t bin = 0;
    double before = 0;
    while (bin + 1 < n_bins && before + masses[bin] < target)
        before += masses[bin++];

    cut_.clear();
    std::copy_if(candidates_.begin(), candidates_.end(), std::back_inserter(cut_),
                 [&](const Candidate& candidate) { return bin_of(candidate.logit) == bin; });
    std::sort(cut_.begin(), cut_.end(), better);
    const size_t n_kept = n_with_mass(cut_, target - before);
    if (n_kept == cut_.size()) {
        std::erase_if(candidates_, [&](const Candidate& candidate) { return bin_of(candidate.logit) > bin; });
    } else {
        const Candidate first_out = cut_[n_kept];
        std::erase_if(candidates_, [&](const Candidate& candidate) { return !better(candidate, first_out); });
    }
}

// candidates_ <- those with a weight of at least `bound`, in the order of ids.
void Sampler::take_candidates(const Distribution& d, float bound) {
    candidates_.clear();
    indices_.resize(weights_.size());
    const int64_t n_found = kernels::indices_at_least(weights_, bound, indices_.data());
    for (const int32_t token : std::span(indices_).first(static_cast<size_t>(n_found))) {
        const auto i = static_cast<size_t>(token);
        candidates_.push_back({d.logits[i], token, weights_[i]});
    }
}

}  // namespace mixserve::engine
