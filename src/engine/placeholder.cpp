#include "io/request.h"
