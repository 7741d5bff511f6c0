#include "app/job_command.h"

namespace mixserve::app {

int run_run(Arguments arguments) {
    return run_job(arguments, false);
}

}  // namespace mixserve::app
