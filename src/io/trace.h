#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/phase.h"
#include "io/row_writer.h"

namespace mixserve::io {

/// A rank as a trace shows it.
struct TraceRank {
    int64_t rank = 0;
    int64_t node = 0;
    std::string host;
};

/// trace.json in the Chrome trace format (its list form, which viewers also read when the end is missing, so
/// that the trace of a killed job opens): a process a node, a thread a rank, a slice a span,
/// an instant a message from another node ("tokens in", "sums in", with its bytes). For chrome://tracing and
/// Perfetto.
class TraceWriter {
  public:
    TraceWriter(const std::string& path, std::span<const TraceRank> ranks);

    /// `clock_offset_s` is taken from the spans' times: what the rank's clock showed at the job's start.
    void write(int64_t rank, std::span<const TraceSpan> spans, double clock_offset_s);
    /// Ends the list. The last call.
    void finish();

  private:
    void append(const std::string& event);

    RowWriter writer_;
    std::vector<int64_t> node_of_rank_;
    std::string buffer_;
    bool first_ = true;
};

}  // namespace mixserve::io
