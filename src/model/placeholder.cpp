#include "io/sampling_params.h"
