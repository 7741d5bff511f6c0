#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"
#include "io/hdf5_handle.h"

namespace mixserve::io {

// The format of a model (DESIGN.md section 2). Files other than the main one hold /weights only.

inline constexpr const char* format_program = "mixserve";
inline constexpr uint64_t format_version = 1;
inline constexpr uint64_t format_alignment = 4096;

inline constexpr const char* attribute_program = "program";         // on the root: a string
inline constexpr const char* attribute_version = "format_version";  // on the root: u64
inline constexpr const char* attribute_fingerprint =
    "fingerprint";  // on the root: u64, alike in all files of a model
inline constexpr const char* attribute_checksum = "xxh3_64";  // on a dataset: u64, XXH3 of its bytes
inline constexpr const char* attribute_transposed =
    "transposed";  // on a tensor: u64, 1 where stored as [n_in, n_out]
inline constexpr const char* group_weights = "weights";

/// The HDF5 type of a stored element. bf16: 16 bits, sign 15, exponent 7..14 with bias 127, mantissa 0..6.
Hdf5Handle hdf5_type(DType dtype);
/// The element type that an HDF5 type is; false where it is none of ours.
bool hdf5_dtype(hid_t type, DType& dtype);

/// A string of exactly that many bytes, UTF-8.
Hdf5Handle hdf5_text_type(size_t n_bytes);

/// Attributes of `object`; the readers return false where there is none of that name and type.
void write_attribute(hid_t object, const char* name, uint64_t value);
void write_attribute(hid_t object, const char* name, const std::string& value);
void overwrite_attribute(hid_t object, const char* name, uint64_t value);
bool read_attribute(hid_t object, const char* name, uint64_t& value);
bool read_attribute(hid_t object, const char* name, std::string& value);

}  // namespace mixserve::io
