#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "comm/communicator.h"

namespace mixserve::comm {

/// MPI's own collectives on f32, as they are, for measuring them. n = communicator.size(). Counts must fit
/// MPI's int.

/// In place: values[i] becomes the sum over the ranks.
void all_reduce_sum(std::span<float> values, const Communicator& communicator);
/// part = this rank's n-th of the sum over the ranks of `values` (n * part.size() values).
void reduce_scatter_sum(std::span<const float> values, std::span<float> part,
                        const Communicator& communicator);
/// all = the parts of all ranks, by rank.
void all_gather(std::span<const float> part, std::span<float> all, const Communicator& communicator);
/// The r-th n-th of `sent` goes to rank r; the r-th n-th of `received` is from rank r.
void all_to_all(std::span<const float> sent, std::span<float> received, const Communicator& communicator);
/// Sends to one rank while receiving from another, sizes known to both.
void send_receive(std::span<const float> sent, int to, std::span<float> received, int from,
                  const Communicator& communicator);

/// bytes_to[r] bytes to each rank r and bytes_from[r] from it, in messages of at most `message_bytes`, all
/// under way at once; this rank itself is left out. Everyone is sent the beginning of `sent`; what comes lies
/// in `received` by rank: it is there to measure the wire.
void exchange_bytes(std::span<const int64_t> bytes_to, std::span<const int64_t> bytes_from,
                    int64_t message_bytes, std::span<const std::byte> sent, std::span<std::byte> received,
                    const Communicator& communicator);

}  // namespace mixserve::comm
