#include "io/hdf5_format.h"

#include "base/error.h"

namespace mixserve::io {
namespace {

Hdf5Handle half_type(size_t exponent_bits, size_t bias) {
    const size_t mantissa_bits = 15 - exponent_bits;
    Hdf5Handle type = hdf5_own(H5Tcopy(H5T_IEEE_F32LE), "HDF5 type");
    hdf5_check(H5Tset_fields(type.id(), 15, mantissa_bits, exponent_bits, 0, mantissa_bits),
               "HDF5 type: fields");
    hdf5_check(H5Tset_size(type.id(), 2), "HDF5 type: size");
    hdf5_check(H5Tset_ebias(type.id(), bias), "HDF5 type: bias");
    return type;
}

void create_attribute(hid_t object, const char* name, hid_t type, hid_t memory_type, const void* value) {
    const std::string what = std::string("attribute ") + name;
    const Hdf5Handle space = hdf5_own(H5Screate(H5S_SCALAR), what);
    const Hdf5Handle attribute =
        hdf5_own(H5Acreate2(object, name, type, space.id(), H5P_DEFAULT, H5P_DEFAULT), what);
    hdf5_check(H5Awrite(attribute.id(), memory_type, value), what);
}

Hdf5Handle open_scalar(hid_t object, const char* name, H5T_class_t kind) {
    if (H5Aexists(object, name) <= 0) return {};
    Hdf5Handle attribute(H5Aopen(object, name, H5P_DEFAULT));
    if (!attribute.valid()) return {};
    const Hdf5Handle type(H5Aget_type(attribute.id()));
    const Hdf5Handle space(H5Aget_space(attribute.id()));
    const bool fits = H5Tget_class(type.id()) == kind && H5Sget_simple_extent_npoints(space.id()) == 1;
    return fits ? std::move(attribute) : Hdf5Handle();
}

}  // namespace

Hdf5Handle hdf5_type(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return hdf5_own(H5Tcopy(H5T_IEEE_F32LE), "HDF5 type");
        case DType::f16:
            return half_type(5, 15);
        case DType::bf16:
            return half_type(8, 127);
    }
    fail("HDF5 type: unknown element type");
}

Hdf5Handle hdf5_text_type(size_t n_bytes) {
    Hdf5Handle type = hdf5_own(H5Tcopy(H5T_C_S1), "HDF5 string type");
    hdf5_check(H5Tset_size(type.id(), n_bytes), "HDF5 string type");
    hdf5_check(H5Tset_strpad(type.id(), H5T_STR_NULLPAD), "HDF5 string type");
    hdf5_check(H5Tset_cset(type.id(), H5T_CSET_UTF8), "HDF5 string type");
    return type;
}

bool hdf5_dtype(hid_t type, DType& dtype) {
    for (const DType candidate : {DType::bf16, DType::f32, DType::f16}) {
        if (H5Tequal(type, hdf5_type(candidate).id()) > 0) {
            dtype = candidate;
            return true;
        }
    }
    return false;
}

void write_attribute(hid_t object, const char* name, uint64_t value) {
    create_attribute(object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &value);
}

void write_attribute(hid_t object, const char* name, const std::string& value) {
    const Hdf5Handle type = hdf5_text_type(value.size());
    create_attribute(object, name, type.id(), type.id(), value.data());
}

void overwrite_attribute(hid_t object, const char* name, uint64_t value) {
    const std::string what = std::string("attribute ") + name;
    const Hdf5Handle attribute = hdf5_own(H5Aopen(object, name, H5P_DEFAULT), what);
    hdf5_check(H5Awrite(attribute.id(), H5T_NATIVE_UINT64, &value), what);
}

bool read_attribute(hid_t object, const char* name, uint64_t& value) {
    const Hdf5Handle attribute = open_scalar(object, name, H5T_INTEGER);
    return attribute.valid() && H5Aread(attribute.id(), H5T_NATIVE_UINT64, &value) >= 0;
}

bool read_attribute(hid_t object, const char* name, std::string& value) {
    const Hdf5Handle attribute = open_scalar(object, name, H5T_STRING);
    if (!attribute.valid()) return false;
    const Hdf5Handle type(H5Aget_type(attribute.id()));
    if (H5Tis_variable_str(type.id()) != 0) return false;
    value.assign(H5Tget_size(type.id()), '\0');
    return H5Aread(attribute.id(), type.id(), value.data()) >= 0;
}

}  // namespace mixserve::io
