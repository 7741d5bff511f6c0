#include "engine/batch_message.h"

#include "base/bytes.h"

namespace mixserve::engine {

std::vector<std::byte> pack(const model::Batch& batch) {
    ByteWriter out;
    out.put_array(batch.tokens);
    out.put_array(batch.positions);
    out.put_array(batch.block_tables);
    out.put_array(batch.logit_rows);
    out.put(static_cast<int64_t>(batch.sequences.size()));
    for (const kernels::SequenceRows& s : batch.sequences) {
        out.put(s.first_row);
        out.put(s.n_tokens);
        out.put(s.first_position);
        out.put(static_cast<int64_t>(s.block_table - batch.block_tables.data()));
    }
    return out.take();
}

model::Batch unpack_batch(std::span<const std::byte> bytes) {
    ByteReader in(bytes);
    model::Batch batch;
    batch.tokens = in.get_array<int32_t>();
    batch.positions = in.get_array<int32_t>();
    batch.block_tables = in.get_array<int32_t>();
    batch.logit_rows = in.get_array<int32_t>();
    batch.sequences.resize(static_cast<size_t>(in.get<int64_t>()));
    for (kernels::SequenceRows& s : batch.sequences) {
        s.first_row = in.get<int64_t>();
        s.n_tokens = in.get<int64_t>();
        s.first_position = in.get<int64_t>();
        s.block_table = batch.block_tables.data() + in.get<int64_t>();
    }
    return batch;
}

}  // namespace mixserve::engine
