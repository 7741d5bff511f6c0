#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "io/checkpoint_builder.h"
#include "io/model_writer.h"

namespace mixserve::test {

/// Writes a model of the tensors as they are, in their order.
inline void write_model(const std::string& path, const std::vector<MadeTensor>& tensors,
                        const io::ModelTexts& texts, const io::WriteOptions& options = {}) {
    std::vector<io::TensorInfo> infos;
    for (const MadeTensor& tensor : tensors)
        infos.push_back({tensor.name, *parse_dtype(tensor.dtype), tensor.shape, false, 0});
    io::ModelWriter writer(path, texts, infos, options);
    for (const MadeTensor& tensor : tensors)
        writer.append(tensor.bytes.data(), static_cast<int64_t>(tensor.bytes.size()));
    writer.finish();
}

inline std::string read_tensor(const io::ModelFile& file, const std::string& name) {
    const io::TensorInfo& info = file.tensor(name);
    std::string bytes(static_cast<size_t>(info.n_bytes()), '\0');
    file.read(name, std::vector<int64_t>(info.shape.size(), 0), info.shape, bytes.data());
    return bytes;
}

/// What `action` throws, which must be an Error of that exit code; "" where it throws nothing.
template <class Action>
std::string error_of(const Action& action, ExitCode code = exit_usage) {
    try {
        action();
    } catch (const Error& e) {
        return e.exit_code() == code ? e.what() : std::string("another exit code: ") + e.what();
    }
    return "";
}

}  // namespace mixserve::test
