#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "comm/topology.h"

namespace mixserve::app {

/// {"version","git_revision","git_dirty","compiler","build_type","flags","libraries":{name: version}}.
ordered_json build_json();
/// The same as lines for people, after "mixserve VERSION".
std::string build_text();

/// The Slurm job, array and restart that this process belongs to, by names as "job_id"; an empty object
/// outside of Slurm.
ordered_json slurm_json();

/// [{"model","cores","hosts":[...]}]: the processors of all nodes, each kind once. Collective over the world.
ordered_json cpus_json(const comm::Topology& topology);

/// Who holds an output folder (io::FileLock::take).
ordered_json lock_holder();

}  // namespace mixserve::app
