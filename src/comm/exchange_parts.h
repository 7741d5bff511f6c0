#pragma once

#include "comm/exchange.h"

namespace mixserve::comm {

/// `tp`, `tp-pp`: the rows of a group are gathered, and every rank multiplies all of them with its cut of all
/// experts.
std::unique_ptr<Exchange> make_gather_exchange(Strategy strategy, const ExchangeSetup& setup);

/// `dp-ep`, `tp-ep`: one copy a (token, expert) goes to the ranks that hold the expert, by plain collectives
/// one after the other.
std::unique_ptr<Exchange> make_copy_exchange(Strategy strategy, const ExchangeSetup& setup);

/// `fused` (DESIGN.md section 4).
std::unique_ptr<Exchange> make_fused_exchange(const ExchangeSetup& setup);

/// On a GPU: of a world of one rank.
std::unique_ptr<Exchange> make_local_exchange(const ExchangeSetup& setup);

/// On a GPU: `host` is an exchange of the same setup, which works in the host's memory.
std::unique_ptr<Exchange> make_staged_exchange(std::unique_ptr<Exchange> host, const ExchangeSetup& setup);

/// On GPUs, one a rank, over NCCL: every strategy's.
std::unique_ptr<Exchange> make_nccl_exchange(Strategy strategy, const ExchangeSetup& setup);

/// The experts' products of a step on rows in the host's memory, unless the setup leaves them out; with a GPU
/// they are staged to it and back.
void run_experts(const ExchangeSetup& setup, const float* x, int64_t n_rows, const kernels::ExpertRows& rows,
                 const kernels::ExpertWeights& weights, float* out);
void run_staged_experts(const ExchangeSetup& setup, const float* x, int64_t n_rows,
                        const kernels::ExpertRows& rows, const kernels::ExpertWeights& weights, float* out);

}  // namespace mixserve::comm
