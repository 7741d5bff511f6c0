#pragma once

namespace mixserve {

/// For a process that is about to end its job: kills Open MPI's launcher on this host (mpirun, or its daemon)
/// if that is still there after `patience_s`. It waits for the daemons of the other hosts, and where a wire
/// is cut with bytes under way TCP lets it wait for a quarter of an hour. Returns at once; does nothing where
/// another launcher started this process.
void kill_launcher_that_stays(unsigned patience_s);

}  // namespace mixserve
