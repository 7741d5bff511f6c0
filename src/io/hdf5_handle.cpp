#include "io/hdf5_handle.h"

#include "base/error.h"

namespace mixserve::io {
namespace {

herr_t keep_first(unsigned /*n*/, const H5E_error2_t* error, void* out) {
    auto& text = *static_cast<std::string*>(out);
    if (text.empty() && error->desc != nullptr) text = error->desc;
    return 0;
}

}  // namespace

bool Hdf5Handle::close() {
    return id_ < 0 || H5Idec_ref(std::exchange(id_, H5I_INVALID_HID)) >= 0;
}

QuietHdf5::QuietHdf5() {
    // After a failed open or write HDF5 keeps half-closed identifiers, and its own clean-up at exit crashes
    // on them (1.10.8). All of ours are closed by their owners. Counts only before HDF5's first use in the
    // process.
    H5dont_atexit();
    H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

QuietHdf5::~QuietHdf5() {
    H5Eset_auto2(H5E_DEFAULT, print_, data_);
}

std::string hdf5_message() {
    std::string text;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &text);
    return text.empty() ? "HDF5 gives no reason" : text;
}

Hdf5Handle hdf5_own(hid_t id, const std::string& what) {
    require(id >= 0, "{}: {}", what, hdf5_reason);
    return Hdf5Handle(id);
}

void hdf5_check(herr_t status, const std::string& what) {
    require(status >= 0, "{}: {}", what, hdf5_reason);
}

}  // namespace mixserve::io
