#include "device/buffer.h"
