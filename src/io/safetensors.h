#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace mixserve::io {

/// A tensor in a safetensors file.
struct SafeTensor {
    std::string name;
    std::string stored_dtype;    // as the header spells it: "BF16", "F8_E4M3", ...
    std::optional<DType> dtype;  // nullopt: one that this program does not compute with
    std::vector<int64_t> shape;
    int64_t offset = 0;  // of the first byte in the file
    int64_t n_bytes = 0;
};

/// Longest header accepted, as in the reference implementation of the format.
inline constexpr int64_t max_safetensors_header_bytes = 100'000'000;

/// Reads the header text of a file of `file_bytes` bytes, and checks that the tensors tile the bytes after
/// it, each with the size of its shape. UsageError names `where`, the tensor and what is wrong. Tensors are
/// in the order of their bytes.
std::vector<SafeTensor> parse_safetensors_header(std::string_view header, int64_t file_bytes,
                                                 const std::string& where);

/// The same for the file at `path`, of which only the header is read.
std::vector<SafeTensor> read_safetensors_header(const std::string& path);

}  // namespace mixserve::io
