// Damages one tensor of an HDF5 model, for tests. usage: damage_model M.h5 missing|shape|type|attribute
// TENSOR
#include <hdf5.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "io/hdf5_format.h"

using namespace mixserve::io;

namespace {

/// The same bytes under another shape or type, with the attributes of the program's own tensors.
bool replace(hid_t file, const std::string& name, bool other_type) {
    const Hdf5Handle old(H5Dopen2(file, name.c_str(), H5P_DEFAULT));
    const Hdf5Handle space(H5Dget_space(old.id()));
    std::vector<hsize_t> extent(static_cast<size_t>(H5Sget_simple_extent_ndims(space.id())));
    H5Sget_simple_extent_dims(space.id(), extent.data(), nullptr);
    const Hdf5Handle type(other_type ? H5Tcopy(H5T_STD_I16LE) : H5Dget_type(old.id()));
    std::vector<char> bytes(H5Dget_storage_size(old.id()));
    uint64_t transposed = 0;
    if (!read_attribute(old.id(), attribute_transposed, transposed) ||
        H5Dread(old.id(), H5Dget_type(old.id()), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0 ||
        H5Ldelete(file, name.c_str(), H5P_DEFAULT) < 0)
        return false;
    if (!other_type)
        extent = {extent.front() / 2, bytes.size() / H5Tget_size(type.id()) / (extent.front() / 2)};
    const Hdf5Handle shape(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
    const Hdf5Handle made(
        H5Dcreate2(file, name.c_str(), type.id(), shape.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    if (H5Dwrite(made.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0) return false;
    write_attribute(made.id(), attribute_checksum, 1);
    write_attribute(made.id(), attribute_transposed, transposed);
    return true;
}

bool damage(hid_t file, const std::string& how, const std::string& name) {
    if (how == "missing") return H5Ldelete(file, name.c_str(), H5P_DEFAULT) >= 0;
    if (how == "attribute")
        return H5Adelete_by_name(file, name.c_str(), attribute_checksum, H5P_DEFAULT) >= 0;
    return (how == "shape" || how == "type") && replace(file, name, how == "type");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const Hdf5Handle file(H5Fopen(argv[1], H5F_ACC_RDWR, H5P_DEFAULT));
    if (file.valid() && damage(file.id(), argv[2], std::string(group_weights) + "/" + argv[3])) return 0;
    std::fprintf(stderr, "damage_model: cannot do that\n");
    return 1;
}
