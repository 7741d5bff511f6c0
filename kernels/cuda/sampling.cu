// Draws tokens from rows of logits, a block a row. Nothing is sorted: a cut (the largest logit such that the
// tokens above it and at it have some count, or some weight) is found digit by digit, by histograms of the
// logits' bits, in three passes. Weights are integers, so that sums, and with them tokens, do not depend on
// the order in which threads add.

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

namespace mixserve::kernels::cuda {
namespace {

using namespace mixserve::simt;

constexpr int most_threads = 1024;
constexpr int most_warps = most_threads / warp_size;
/// Of a logit's 32: three digits of 11, 11 and 10 bits.
constexpr int digit_bits = 11;
constexpr int n_bins = 1 << digit_bits;
/// Tokens that shared memory has room for; up to so many go there once top_k has left no more.
constexpr int most_listed = 2048;
constexpr int no_tie = 0x7fffffff;
/// Of the most likely token. max_sampled_vocab times this fits in 63 bits.
constexpr float full_weight = 17592186044416.0F;  // 2^44

using Sum = unsigned long long;

struct SampleWork {
    Sum sums[most_warps];  // of each warp
    uint32_t low[n_bins];  // of a histogram's 64 bits
    uint32_t high[n_bins];
    float logits[most_listed];
    int32_t tokens[most_listed];
    Sum before;
    Sum at;
    uint32_t bin;
    int found;
    int n_not_finite;
    int first_not_finite;
};

struct Sampling {
    const float* logits = nullptr;  // [.., vocab_size]
    int64_t vocab_size = 0;
    const RowSampling* rows = nullptr;
    const int32_t* changed_rows = nullptr;  // of each row: its place in `changed`, or -1
    float* changed = nullptr;               // [.., vocab_size]: copies of rows with penalties or bans
    const PenalisedToken* penalised = nullptr;
    const int32_t* banned = nullptr;
    RowSample* out = nullptr;
    TopToken* top = nullptr;
};

/// Some logits, in the order of their ids.
struct Values {
    const float* logits;
    const int32_t* tokens;  // null: element i is token i
    int n;
};

__device__ __forceinline__ bool is_finite(float x) {
    return (as_bits(x) & 0x7f800000U) != 0x7f800000U;
}

/// Integers in the order of the numbers; zeros of both signs are equal.
__device__ __forceinline__ uint32_t key_of(float x) {
    const uint32_t bits = x == 0.0F ? 0U : as_bits(x);
    return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ __forceinline__ float value_of(uint32_t key) {
    return as_float((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
}

__device__ __forceinline__ int own_warp() {
    return static_cast<int>(threadIdx.x) / warp_size;
}
__device__ __forceinline__ int own_lane() {
    return static_cast<int>(threadIdx.x) % warp_size;
}
__device__ __forceinline__ int warps_of_block() {
    return static_cast<int>(blockDim.x) / warp_size;
}

/// A warp's share of the elements: consecutive ones, a multiple of what it reads at a time.
constexpr int lane_elements = 4;
constexpr int warp_elements = lane_elements * warp_size;
struct Share {
    int begin;
    int end;
    __device__ Share(int n, int warp) {
        const int pieces = static_cast<int>(ceil_div(n, warp_elements));
        const int length = static_cast<int>(ceil_div(pieces, warps_of_block())) * warp_elements;
        begin = warp * length < n ? warp * length : n;
        end = begin + length < n ? begin + length : n;
    }
};

/// body(i, logit) for the elements of this warp's share, each in one lane; in no order.
template <class Body>
__device__ __forceinline__ void for_own_share(const Values& v, const Body& body) {
    const Share share(v.n, own_warp());
    int i = share.begin;
    if ((reinterpret_cast<uintptr_t>(v.logits) & 15U) == 0) {
        for (; i + warp_elements <= share.end; i += warp_elements) {
            const int first = i + own_lane() * lane_elements;
            const float4 four = *reinterpret_cast<const float4*>(v.logits + first);
            body(first, four.x);
            body(first + 1, four.y);
            body(first + 2, four.z);
            body(first + 3, four.w);
        }
    }
    for (i += own_lane(); i < share.end; i += warp_size)
        body(i, v.logits[i]);
}

__device__ __forceinline__ Sum warp_total(Sum value) {
    for (int distance = warp_size / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(all_lanes, value, distance);
    return value;
}

/// The sum over this lane and those before it.
__device__ __forceinline__ Sum warp_running_sum(Sum value) {
    for (int distance = 1; distance < warp_size; distance *= 2) {
        const int from = own_lane() - distance;
        const Sum other = __shfl_sync(all_lanes, value, from >= 0 ? from : own_lane());
        if (from >= 0) value += other;
    }
    return value;
}

/// work.sums <- the sum of `value` over each warp; returns that of all. All threads call it.
__device__ __forceinline__ Sum sum_by_warp(Sum value, SampleWork& work) {
    __syncthreads();  // what was in the sums has been read
    value = warp_total(value);
    if (own_lane() == 0) work.sums[own_warp()] = value;
    __syncthreads();
    Sum total = 0;
    for (int w = 0; w < warps_of_block(); ++w)
        total += work.sums[w];
    return total;
}

/// The sum of measure(i, logit), which the warps' own sums are left of.
template <class Measure>
__device__ Sum sum_of(const Values& v, const Measure& measure, SampleWork& work) {
    Sum own = 0;
    for_own_share(v, [&](int i, float x) { own += measure(i, x); });
    return sum_by_warp(own, work);
}

/// After sum_of() with the same measure, and `target` less than its result: the first element with which the
/// running sum, in the order of ids, is more than `target`.
template <class Measure>
__device__ int find_in_order(const Values& v, Sum target, const Measure& measure, SampleWork& work) {
    Sum before = 0;
    int warp = 0;
    while (before + work.sums[warp] <= target)
        before += work.sums[warp++];
    if (own_warp() == warp) {
        const Share share(v.n, warp);
        for (int base = share.begin; base < share.end; base += warp_elements) {
            const int first = base + own_lane() * lane_elements;
            Sum measures[lane_elements];
            Sum own = 0;
            for (int j = 0; j < lane_elements; ++j) {
                measures[j] = first + j < share.end ? measure(first + j, v.logits[first + j]) : 0;
                own += measures[j];
            }
            const Sum up_to_here = before + warp_running_sum(own);
            const Sum up_to_all = __shfl_sync(all_lanes, up_to_here, warp_size - 1);
            if (up_to_all > target) {
                Sum sum = up_to_here - own;
                for (int j = 0; j < lane_elements; ++j) {
                    if (sum <= target && target < sum + measures[j]) work.found = first + j;
                    sum += measures[j];
                }
                break;
            }
            before = up_to_all;
        }
    }
    __syncthreads();
    return work.found;
}

/// Where a measure that is summed from the largest logit downwards reaches a target.
struct Cut {
    uint32_t key;  // of the logit
    Sum before;    // sum over the larger ones
    Sum at;        // over its equals
};

/// The first key, from the largest down, with which the sum of measure(logit) reaches `target` (at least 1);
/// key 0 where it never does.
template <class Measure>
__device__ Cut find_cut(const Values& v, Sum target, const Measure& measure, SampleWork& work) {
    const int thread = static_cast<int>(threadIdx.x);
    const int own_bins = n_bins / static_cast<int>(blockDim.x);
    Cut cut{0, 0, 0};
    for (int digit = 0; digit < 3; ++digit) {
        const int shift = digit == 0 ? 21 : digit == 1 ? 10 : 0;
        const int bits = digit == 2 ? 10 : digit_bits;
        for (int bin = thread; bin < n_bins; bin += static_cast<int>(blockDim.x))
            work.low[bin] = work.high[bin] = 0;
        if (thread == 0) work.found = 0;
        __syncthreads();
        const uint32_t wanted = digit > 0 ? cut.key >> (shift + bits) : 0U;
        for_own_share(v, [&](int, float x) {
            const uint32_t key = key_of(x);
            if (digit > 0 && key >> (shift + bits) != wanted) return;
            const Sum value = measure(x);
            if (value == 0) return;
            const uint32_t bin = (key >> shift) & ((1U << bits) - 1U);
            const auto low = static_cast<uint32_t>(value);
            auto high = static_cast<uint32_t>(value >> 32);
            const uint32_t was = atomicAdd(&work.low[bin], low);
            high += was + low < was ? 1U : 0U;
            if (high != 0) atomicAdd(&work.high[bin], high);
        });
        __syncthreads();
        // Places from the top: bin n_bins - 1 - place.
        const auto sum_at = [&](int place) {
            const int bin = n_bins - 1 - place;
            return static_cast<Sum>(work.high[bin]) << 32 | work.low[bin];
        };
        Sum own = 0;
        for (int j = 0; j < own_bins; ++j)
            own += sum_at(thread * own_bins + j);
        sum_by_warp(own, work);
        Sum before = cut.before + warp_running_sum(own) - own;
        for (int w = 0; w < own_warp(); ++w)
            before += work.sums[w];
        if (before < target && target <= before + own) {  // one thread at most
            int place = thread * own_bins;
            while (before + sum_at(place) < target)
                before += sum_at(place++);
            work.bin = static_cast<uint32_t>(n_bins - 1 - place);
            work.before = before;
            work.at = sum_at(place);
            work.found = 1;
        }
        __syncthreads();
        if (work.found == 0) return {0, 0, 0};
        cut.key |= work.bin << shift;
        cut.before = work.before;
        cut.at = work.at;
        __syncthreads();
    }
    return cut;
}

/// What a row has kept: tokens above a cut, and of those at it the first ones.
struct Kept {
    float lowest;
    uint32_t key;
    int last_tie;  // an element
    __device__ bool has(int i, float x) const {
        const uint32_t k = key_of(x);
        return x >= lowest && (k > key || (k == key && i <= last_tie));
    }
};

/// The last of the first `n` elements with the key, of which there are more.
__device__ int last_of_ties(const Values& v, uint32_t key, Sum n, SampleWork& work) {
    const auto is_tie = [&](int, float x) -> Sum { return key_of(x) == key ? 1 : 0; };
    sum_of(v, is_tie, work);
    return find_in_order(v, n - 1, is_tie, work);
}

/// The kept elements, no more than most_listed, in shared memory, in their order.
__device__ Values list_kept(const Values& v, const Kept& kept, SampleWork& work) {
    const auto is_kept = [&](int i, float x) -> Sum { return kept.has(i, x) ? 1 : 0; };
    const Sum n = sum_of(v, is_kept, work);
    Sum place = 0;
    for (int w = 0; w < own_warp(); ++w)
        place += work.sums[w];
    const Share share(v.n, own_warp());
    for (int base = share.begin; base < share.end; base += warp_size) {
        const int i = base + own_lane();
        const bool has = i < share.end && kept.has(i, v.logits[i]);
        const uint32_t all = __ballot_sync(all_lanes, has);
        if (has) {
            const int at = static_cast<int>(place) + __popc(all & ((1U << own_lane()) - 1U));
            work.logits[at] = v.logits[i];
            work.tokens[at] = v.tokens != nullptr ? v.tokens[i] : i;
        }
        place += __popc(all);
    }
    __syncthreads();
    return {work.logits, work.tokens, static_cast<int>(n)};
}

/// (largest logit, lowest id) as one number.
__device__ __forceinline__ Sum pair_of(int i, float x) {
    return static_cast<Sum>(key_of(x)) << 32 | (0xffffffffU - static_cast<uint32_t>(i));
}
__device__ Sum largest_of_block(Sum pair, SampleWork& work) {
    for (int distance = warp_size / 2; distance > 0; distance /= 2) {
        const Sum other = __shfl_xor_sync(all_lanes, pair, distance);
        pair = other > pair ? other : pair;
    }
    __syncthreads();
    if (own_lane() == 0) work.sums[own_warp()] = pair;
    __syncthreads();
    for (int w = 0; w < warps_of_block(); ++w)
        pair = work.sums[w] > pair ? work.sums[w] : pair;
    return pair;
}

__device__ __forceinline__ void note_not_finite(int i, SampleWork& work) {
    atomicAdd(&work.n_not_finite, 1);
    atomicMin(&work.first_not_finite, i);
}

/// exp((x - largest) * scale), in units of 1 / full_weight.
__device__ __forceinline__ Sum weight_of(float x, float largest, float scale) {
    return static_cast<Sum>(expf((x - largest) * scale) * full_weight);
}

__device__ int draw(Values v, float largest, const RowSampling& row, SampleWork& work) {
    Kept kept{0.0F, 0, no_tie};
    const double bound = static_cast<double>(largest) + row.min_p_offset;
    constexpr float least = -3.402823466e38F;
    kept.lowest = fminf(bound > static_cast<double>(least) ? static_cast<float>(bound) : least, largest);

    if (row.top_k > 0 && row.top_k < v.n) {
        const float lowest = kept.lowest;
        const auto counts = [=](float x) -> Sum { return x >= lowest ? 1 : 0; };
        const Cut cut = find_cut(v, static_cast<Sum>(row.top_k), counts, work);
        kept.key = cut.key;  // with all equals of the last
        if (cut.key != 0 && cut.before + cut.at <= most_listed) v = list_kept(v, kept, work);
    }
    const auto weights = [&](int i, float x) -> Sum {
        return kept.has(i, x) ? weight_of(x, largest, row.scale) : 0;
    };
    if (row.top_p < 1) {
        const Sum all = sum_of(v, weights, work);
        const double wanted = static_cast<double>(all) * row.top_p;
        Sum target = wanted < 1 ? 1 : static_cast<Sum>(wanted);
        target = target < all ? target : all;
        const Cut cut = find_cut(
            v, target, [&](float x) { return weights(0, x); }, work);
        kept.key = cut.key;
        const Sum of_one = weight_of(value_of(cut.key), largest, row.scale);
        const Sum n_ties = (target - cut.before + of_one - 1) / of_one;
        if (n_ties * of_one < cut.at) kept.last_tie = last_of_ties(v, cut.key, n_ties, work);
    }
    const Sum mass = sum_of(v, weights, work);
    const auto target = static_cast<Sum>(row.u * static_cast<double>(mass));
    const int i = find_in_order(v, target < mass ? target : mass - 1, weights, work);
    return v.tokens != nullptr ? v.tokens[i] : i;
}

/// The token's log-probability in the raw distribution, its rank, and the most likely tokens.
__device__ void tell_logprobs(const Values& raw, int token, float largest, const RowSampling& row,
                              RowSample& sample, TopToken* top, SampleWork& work) {
    const Sum mass = sum_of(
        raw, [=](int, float x) { return weight_of(x, largest, 1.0F); }, work);
    const double all =
        static_cast<double>(largest) + log(static_cast<double>(mass) / static_cast<double>(full_weight));
    const float logit = raw.logits[token];
    const Sum n_better = sum_of(
        raw, [=](int, float x) -> Sum { return x > logit ? 1 : 0; }, work);
    sample.logprob = static_cast<float>(static_cast<double>(logit) - all);
    sample.rank = static_cast<int32_t>(n_better) + 1;
    const auto n = static_cast<Sum>(row.n_top < raw.n ? row.n_top : raw.n);
    if (n == 0) return;
    const Cut cut = find_cut(
        raw, n, [](float) -> Sum { return 1; }, work);
    Kept kept{-INFINITY, cut.key, no_tie};
    if (cut.before + cut.at > n) kept.last_tie = last_of_ties(raw, cut.key, n - cut.before, work);
    const Values best = list_kept(raw, kept, work);
    for (int i = static_cast<int>(threadIdx.x); i < best.n; i += static_cast<int>(blockDim.x)) {
        int place = 0;
        for (int j = 0; j < best.n; ++j) {
            const bool is_before =
                best.logits[j] > best.logits[i] || (best.logits[j] == best.logits[i] && j < i);
            place += is_before ? 1 : 0;
        }
        top[row.first_top + place] = {best.tokens[i],
                                      static_cast<float>(static_cast<double>(best.logits[i]) - all)};
    }
}

__global__ void __launch_bounds__(most_threads) sample_kernel(const __grid_constant__ Sampling p) {
    SampleWork& work = *shared_memory<SampleWork>();
    const RowSampling row = p.rows[blockIdx.x];
    const int thread = static_cast<int>(threadIdx.x);
    const int n_threads = static_cast<int>(blockDim.x);
    const Values raw{p.logits + row.row * p.vocab_size, nullptr, static_cast<int>(p.vocab_size)};
    const int32_t place = p.changed_rows[blockIdx.x];
    float* changed = place >= 0 ? p.changed + place * p.vocab_size : nullptr;
    if (thread == 0) {
        work.n_not_finite = 0;
        work.first_not_finite = no_tie;
    }
    __syncthreads();
    Sum best = 0;
    for_own_share(raw, [&](int i, float x) {
        if (!is_finite(x)) note_not_finite(i, work);
        const Sum pair = pair_of(i, x);
        best = pair > best ? pair : best;
        if (changed != nullptr) changed[i] = x;
    });
    best = largest_of_block(best, work);
    const float raw_largest = value_of(static_cast<uint32_t>(best >> 32));
    const bool raw_is_finite = work.n_not_finite == 0;
    __syncthreads();  // all have read it
    if (changed != nullptr && raw_is_finite) {
        for (int i = thread; i < row.n_penalised; i += n_threads) {
            const PenalisedToken entry = p.penalised[row.first_penalised + i];
            float logit = changed[entry.token];
            logit = logit > 0.0F ? logit / row.repetition_penalty : logit * row.repetition_penalty;
            if (entry.n_output > 0) {
                logit -= row.frequency_penalty * static_cast<float>(entry.n_output);
                logit -= row.presence_penalty;
            }
            if (!is_finite(logit)) note_not_finite(entry.token, work);
            changed[entry.token] = logit;
        }
        __syncthreads();
    }
    RowSample sample;
    sample.n_not_finite = work.n_not_finite;
    if (sample.n_not_finite > 0) {
        sample.first_not_finite = work.first_not_finite;
        sample.not_finite = (raw_is_finite ? changed : raw.logits)[sample.first_not_finite];
        if (thread == 0) p.out[blockIdx.x] = sample;
        return;
    }
    Values v = raw;
    if (changed != nullptr) {
        for (int i = thread; i < row.n_banned; i += n_threads)
            changed[p.banned[row.first_banned + i]] = -INFINITY;
        __syncthreads();
        v.logits = changed;
        best = 0;
        for_own_share(v, [&](int i, float x) {
            const Sum pair = pair_of(i, x);
            best = pair > best ? pair : best;
        });
        best = largest_of_block(best, work);
    }
    sample.token = static_cast<int32_t>(0xffffffffU - static_cast<uint32_t>(best));
    if (row.scale > 0.0F) sample.token = draw(v, value_of(static_cast<uint32_t>(best >> 32)), row, work);
    if (row.n_top >= 0) tell_logprobs(raw, sample.token, raw_largest, row, sample, p.top, work);
    if (thread == 0) p.out[blockIdx.x] = sample;
}

// blockIdx: (elements, row, slice).
__global__ void join_slices_kernel(SlicedLogits logits, float* out) {
    const int64_t slice = blockIdx.z;
    const int64_t small = logits.vocab_size / logits.n_slices;
    const int64_t n_large = logits.vocab_size % logits.n_slices;
    const int64_t begin = slice * small + (slice < n_large ? slice : n_large);
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < small + (slice < n_large ? 1 : 0)) {
        out[blockIdx.y * logits.vocab_size + begin + i] =
            logits.data[(slice * logits.n_rows + blockIdx.y) * logits.slice_width + i];
    }
}

/// Threads of a row's block: a power of two of warps, so that bins are dealt evenly.
int threads_of_row(int64_t vocab_size) {
    int n = warp_size;
    while (n < most_threads && n * lane_elements < vocab_size)
        n *= 2;
    return n;
}

}  // namespace

void sample_rows(const SlicedLogits& logits, const SamplingBatch& batch, RowSample* out, TopToken* top,
                 device::Stream& stream) {
    std::vector<int32_t> changed_rows;
    int32_t n_changed = 0;
    for (const RowSampling& row : batch.rows)
        changed_rows.push_back(row.n_penalised + row.n_banned > 0 ? n_changed++ : -1);

    const size_t rows_bytes = batch.rows.size() * sizeof(RowSampling);
    const size_t penalised_bytes = batch.penalised.size() * sizeof(PenalisedToken);
    const size_t banned_bytes = batch.banned.size() * sizeof(int32_t);
    const size_t changed_at = rows_bytes + penalised_bytes + banned_bytes;
    std::vector<std::byte> packed(changed_at + changed_rows.size() * sizeof(int32_t));
    const auto put = [&](size_t at, const void* data, size_t n_bytes) {
        if (n_bytes > 0) std::memcpy(packed.data() + at, data, n_bytes);
    };
    put(0, batch.rows.data(), rows_bytes);
    put(rows_bytes, batch.penalised.data(), penalised_bytes);
    put(rows_bytes + penalised_bytes, batch.banned.data(), banned_bytes);
    put(changed_at, changed_rows.data(), changed_rows.size() * sizeof(int32_t));
    std::byte* memory = stream.device_scratch(device::ScratchSlot::sampling_batch, packed.size());
    stream.upload(memory, packed.data(), packed.size());

    const int64_t n_joined = logits.n_slices > 1 ? logits.n_rows * logits.vocab_size : 0;
    const int64_t n_copied = n_changed * logits.vocab_size;
    auto* joined = reinterpret_cast<float*>(stream.device_scratch(
        device::ScratchSlot::sampling_rows, static_cast<size_t>(n_joined + n_copied) * sizeof(float)));
    if (n_joined > 0) {
        constexpr int join_threads = 256;
        const dim3 grid(static_cast<unsigned>(ceil_div(logits.slice_width, join_threads)),
                        static_cast<unsigned>(logits.n_rows), static_cast<unsigned>(logits.n_slices));
        launch("join_slices", *stream.gpu(), grid, join_threads, 0, join_slices_kernel, logits, joined);
    }
    Sampling p;
    p.logits = n_joined > 0 ? joined : logits.data;
    p.vocab_size = logits.vocab_size;
    p.rows = reinterpret_cast<const RowSampling*>(memory);
    p.changed_rows = reinterpret_cast<const int32_t*>(memory + changed_at);
    p.changed = joined + n_joined;
    p.penalised = reinterpret_cast<const PenalisedToken*>(memory + rows_bytes);
    p.banned = reinterpret_cast<const int32_t*>(memory + rows_bytes + penalised_bytes);
    p.out = out;
    p.top = top;
    launch("sample", *stream.gpu(), dim3(static_cast<unsigned>(batch.rows.size())),
           threads_of_row(logits.vocab_size), sizeof(SampleWork), sample_kernel, p);
}

}  // namespace mixserve::kernels::cuda
