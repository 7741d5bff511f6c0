#include "app/job_command.h"

namespace mixserve::app {

int run_score(Arguments arguments) {
    return run_job(arguments, true);
}

}  // namespace mixserve::app
