#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "io/model_texts.h"

namespace mixserve::io {

/// A tensor as the HDF5 model stores it.
struct TensorInfo {
    std::string
        name;  // checkpoint name without the expert's number: "model.layers.0.mlp.experts.gate_proj.weight"
    DType dtype = DType::bf16;
    std::vector<int64_t> shape;  // as stored: experts first; a transposed one as [n_in, n_out]
    bool transposed = false;     // against the checkpoint's [n_out, n_in]
    uint64_t checksum = 0;       // XXH3 of the stored bytes
    int64_t n_bytes() const;
};

/// An HDF5 model (DESIGN.md section 2), open for reading. Every rank opens it and reads its own hyperslabs.
/// Errors name the file, the tensor and what to do. HDF5 is asked only while opening: reads go by position to
/// where it says that the bytes lie, and are safe from several threads.
class ModelFile {
  public:
    /// UsageError when the file is missing, empty, truncated, not HDF5 or not a model of this program.
    static ModelFile open(const std::string& path);
    ~ModelFile();
    ModelFile(ModelFile&&) noexcept;
    ModelFile& operator=(ModelFile&&) noexcept;

    struct FileInfo {
        std::string path;
        int64_t n_bytes;
    };
    const std::string& path() const;
    /// The main file, and those with weights that it links to.
    std::vector<FileInfo> files() const;
    /// The checkpoint's own files, byte for byte; nullopt where it had none.
    const std::string& config() const;
    const std::optional<std::string>& generation_config() const;
    const std::optional<std::string>& tokenizer() const;
    const std::optional<std::string>& tokenizer_config() const;
    const std::optional<std::string>& chat_template() const;

    /// In the order in which they lie in the files.
    const std::vector<TensorInfo>& tensors() const;
    bool has(const std::string& name) const;
    const TensorInfo& tensor(const std::string& name) const;

    /// XXH3 (128 bits, 32 hex digits) over the texts and over name, type, shape and checksum of every tensor:
    /// the same for a copy, and for any division into files. No weight is read for it.
    std::string digest() const;

    /// Reads the hyperslab [offset, offset + count) of a tensor, in its stored type, row-major, to `out`.
    /// Fast where the parts that lie together are long; a hyperslab that cuts the last dimension is not.
    void read(const std::string& name, std::span<const int64_t> offset, std::span<const int64_t> count,
              void* out) const;

    /// Reads every tensor and compares checksums; UsageError on the first that differs. (Those of the
    /// checkpoint's own files are compared by open().) `progress` is told of every block read, in bytes.
    void verify() const;
    void verify(const std::function<void(int64_t n_bytes)>& progress) const;

  private:
    struct Impl;
    explicit ModelFile(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace mixserve::io
