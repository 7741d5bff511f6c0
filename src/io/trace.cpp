#include "io/trace.h"

#include <fmt/format.h>

#include <iterator>
#include <set>

#include "base/error.h"
#include "io/row_parts.h"

namespace mixserve::io {
namespace {

constexpr size_t buffer_bytes = size_t{1} << 20;

ordered_json name_event(const char* kind, int64_t node, int64_t rank, const std::string& name) {
    return {{"name", kind}, {"ph", "M"}, {"pid", node}, {"tid", rank}, {"args", {{"name", name}}}};
}

}  // namespace

TraceWriter::TraceWriter(const std::string& path, std::span<const TraceRank> ranks)
    : writer_(RowWriter::create(path)) {
    writer_.write("[");
    std::set<int64_t> named_nodes;
    for (const TraceRank& rank : ranks) {
        if (static_cast<size_t>(rank.rank) >= node_of_rank_.size())
            node_of_rank_.resize(static_cast<size_t>(rank.rank) + 1);
        node_of_rank_[static_cast<size_t>(rank.rank)] = rank.node;
        if (named_nodes.insert(rank.node).second) {
            append(line_of(name_event("process_name", rank.node, rank.rank,
                                      fmt::format("node {} ({})", rank.node, rank.host))));
        }
        append(line_of(name_event("thread_name", rank.node, rank.rank, fmt::format("rank {}", rank.rank))));
    }
}

void TraceWriter::append(const std::string& event) {
    if (!first_) buffer_ += ",\n";
    first_ = false;
    buffer_ += event;
}

void TraceWriter::write(int64_t rank, std::span<const TraceSpan> spans, double clock_offset_s) {
    require(rank >= 0 && static_cast<size_t>(rank) < node_of_rank_.size(), "the trace has no rank {}", rank);
    const int64_t node = node_of_rank_[static_cast<size_t>(rank)];
    for (const TraceSpan& span : spans) {
        if (span.n_bytes > 0) {
            append(fmt::format(
                R"({{"name":"{} in","ph":"i","s":"t","pid":{},"tid":{},"ts":{:.3f},"args":{{"layer":{},"bytes":{}}}}})",
                span.phase == Phase::dispatch ? "tokens" : "sums", node, rank,
                (span.end_s - clock_offset_s) * 1e6, span.layer, span.n_bytes));
            continue;
        }
        std::string event = fmt::format(
            R"({{"name":"{}","ph":"X","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f})", name(span.phase), node,
            rank, (span.begin_s - clock_offset_s) * 1e6, (span.end_s - span.begin_s) * 1e6);
        if (span.layer >= 0)
            fmt::format_to(std::back_inserter(event), R"(,"args":{{"layer":{}}})", span.layer);
        event += '}';
        append(event);
    }
    if (buffer_.size() < buffer_bytes) return;
    writer_.write_lines(buffer_);
    buffer_.clear();
}

void TraceWriter::finish() {
    buffer_ += "\n]\n";
    writer_.write_lines(buffer_);
    buffer_.clear();
}

}  // namespace mixserve::io
