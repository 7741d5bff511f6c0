#include "app/shard.h"

#include <charconv>
#include <cstdlib>
#include <optional>

#include "base/error.h"

namespace mixserve::app {
namespace {

std::optional<int64_t> whole_number(std::string_view text) {
    int64_t value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    return error == std::errc() && end == last ? std::optional(value) : std::nullopt;
}

int64_t array_variable(const char* name, std::optional<int64_t> otherwise = std::nullopt) {
    const char* text = std::getenv(name);
    if (text == nullptr && otherwise) return *otherwise;
    require_usage(text != nullptr,
                  "--shard auto: {} is not set; this is no task of a Slurm array (give --shard I/N)", name);
    const std::optional<int64_t> value = whole_number(text);
    require_usage(value.has_value(), "--shard auto: {} is '{}', not a number", name, text);
    return *value;
}

io::Shard shard_of_array_task() {
    const int64_t id = array_variable("SLURM_ARRAY_TASK_ID");
    const int64_t first = array_variable("SLURM_ARRAY_TASK_MIN");
    const int64_t last = array_variable("SLURM_ARRAY_TASK_MAX");
    const int64_t count = array_variable("SLURM_ARRAY_TASK_COUNT");
    const int64_t step = array_variable("SLURM_ARRAY_TASK_STEP", 1);
    require_usage(
        step >= 1 && count >= 1 && id >= first && id <= last && (id - first) % step == 0 &&
            last - first == (count - 1) * step,
        "--shard auto: the {} tasks of this array are not numbered evenly from {} to {}; give --shard I/N",
        count, first, last);
    return {(id - first) / step, count};
}

}  // namespace

io::Shard parse_shard(const std::string& text) {
    if (text == "auto") return shard_of_array_task();
    const size_t slash = text.find('/');
    const std::optional<int64_t> index = whole_number(std::string_view(text).substr(0, slash));
    const std::optional<int64_t> count =
        slash == std::string::npos ? std::nullopt : whole_number(std::string_view(text).substr(slash + 1));
    require_usage(index && count, "--shard {}: must be I/N, as 0/4, or auto", text);
    require_usage(*count >= 1 && *index >= 0 && *index < *count,
                  "--shard {}: shards count from 0, so the first of {} is 0/{} and the last {}/{}", text,
                  *count, *count, *count - 1, *count);
    return {*index, *count};
}

}  // namespace mixserve::app
