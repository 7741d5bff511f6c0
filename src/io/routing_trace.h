#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/row_writer.h"

namespace mixserve::io {

/// routing.jsonl: a line for each layer of each step, {"layer": 3, "experts": [[5, 60, ..], ..]}: the experts
/// that the router chose for one rank's tokens, best first.
class RoutingTraceWriter {
  public:
    /// A new file; UsageError when it exists.
    RoutingTraceWriter(const std::string& path, int64_t num_experts_per_tok)
        : writer_(RowWriter::create(path)), k_(num_experts_per_tok) {}
    /// experts [n_tokens, k].
    void write(int64_t layer, std::span<const int32_t> experts);

  private:
    RowWriter writer_;
    int64_t k_;
};

struct RoutingTrace {
    int64_t num_experts_per_tok = 0;
    std::vector<int32_t> experts;  // [n_tokens, k]
};

/// Of one layer, or without `layer` of the first one in the file: at most `max_tokens`, from the beginning.
/// UsageError when there are none, or a line is not as above; ids are not checked beyond being >= 0.
RoutingTrace read_routing_trace(const std::string& path, std::optional<int64_t> layer, int64_t max_tokens);

}  // namespace mixserve::io
