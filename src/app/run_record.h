#pragma once

#include <string>

#include "base/json.h"

namespace mixserve::app {

/// run.json: what was run, on what, and every start of it. `identity` is the part that a row's tokens depend
/// on, flat, by names of options; starts of one job agree in it.
struct RunRecord {
    std::string command;
    ordered_json options;            // resolved, by their names
    ordered_json identity;           // see above
    ordered_json input;              // {"n_bytes","digest","n_prompts","n_in_shard"}
    ordered_json sampling_defaults;  // of lines that do not say; for `run` also among the options
    ordered_json model;
    ordered_json topology;
    ordered_json build;
    ordered_json slurm;
    ordered_json cpus;
    int64_t n_rows_before = 0;
};

/// `earlier`: run.json of the start before, whose list of starts is gone on with; null at the first.
ordered_json to_json(const RunRecord& record, const ordered_json& earlier);

/// Reads a run.json; UsageError where it is missing or none of ours.
ordered_json read_run_json(const std::string& path);

/// What differs between two identities, as "seed is 1 here and was 0", joined by "; "; "" when nothing does.
std::string difference(const ordered_json& now, const ordered_json& before,
                       const std::string& ignored_key = "");

}  // namespace mixserve::app
