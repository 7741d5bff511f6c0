#include "io/step_scan.h"

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "io/line_reader.h"

namespace mixserve::io {
namespace {

constexpr int64_t max_line_bytes = int64_t{64} << 20;

double number_at(const json& object, const std::string& key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_number() ? it->get<double>() : 0;
}

}  // namespace

StepScan scan_steps(const std::string& path) {
    StepScan scan;
    if (!std::filesystem::exists(path)) return scan;
    LineReader lines(path, max_line_bytes);
    while (const std::optional<LineReader::Line> line = lines.next()) {
        if (!line->ended) break;
        const json record = json::parse(line->text.begin(), line->text.end(), nullptr, false);
        if (!record.is_object()) continue;  // a log only: what cannot be read is not counted
        scan.n_bytes = line->end;
        scan.n_steps = std::max(scan.n_steps, static_cast<int64_t>(number_at(record, "step")) + 1);
        scan.time_s = std::max(scan.time_s, number_at(record, "time_s"));
        const auto phases = record.find("phases");
        if (phases == record.end()) continue;
        for (size_t phase = 0; phase < n_phases; ++phase) {
            const auto spread = phases->find(std::string(name(static_cast<Phase>(phase))));
            if (spread != phases->end()) scan.phase_seconds[phase] += number_at(*spread, "mean_ms") / 1e3;
        }
    }
    return scan;
}

}  // namespace mixserve::io
