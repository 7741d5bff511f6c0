#include "kernels/sampling.h"

#include "base/error.h"
#include "kernels/cuda/launch.h"

namespace mixserve::kernels {

void sample_rows(const SlicedLogits& logits, const SamplingBatch& batch, RowSample* out, TopToken* top,
                 device::Stream& stream) {
    require(stream.gpu() != nullptr, "sample_rows is for GPUs; on the CPU, engine::Sampler does it");
    MIXSERVE_ASSERT(logits.vocab_size <= max_sampled_vocab);
    if (!batch.rows.empty()) cuda::sample_rows(logits, batch, out, top, stream);
}

}  // namespace mixserve::kernels
