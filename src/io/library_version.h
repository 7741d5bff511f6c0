#pragma once

#include <string>

namespace mixserve::io {

/// Of the HDF5 library that this process runs with.
std::string hdf5_version();

}  // namespace mixserve::io
