#pragma once

#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/model_file.h"
#include "io/model_texts.h"
#include "io/raw_file.h"

namespace mixserve::io {

struct WriteOptions {
    bool overwrite = false;  // replace a model of that name
    int64_t shard_bytes =
        0;  // above it the weights go to files of about this size beside the main one; 0: never
};

/// Writes an HDF5 model (DESIGN.md section 2). It appears under its name only when it is complete: files are
/// written under temporary names in the same folder, made durable, then renamed, the main one last; the
/// destructor of an unfinished writer removes them. HDF5 lays the files out; the weights are written by
/// position, so that a full disk is one clear error.
class ModelWriter {
  public:
    /// UsageError when the folder is missing, not writable or too full, or the model is there and `overwrite`
    /// is off. Checksums in `tensors` are not looked at.
    ModelWriter(const std::string& path, const ModelTexts& texts, std::vector<TensorInfo> tensors,
                const WriteOptions& options);
    ~ModelWriter();
    ModelWriter(const ModelWriter&) = delete;
    ModelWriter& operator=(const ModelWriter&) = delete;

    /// The next bytes of the tensors, which come one after the other in the order given, row-major, as
    /// stored. An append may end inside of a tensor, and does not pass its end.
    void append(const void* data, int64_t n_bytes);
    /// UsageError when bytes are missing; Error when the disk fails.
    void finish();

  private:
    struct Part {
        std::string path;  // final
        std::string temporary;
        size_t begin = 0;  // tensors [begin, end)
        size_t end = 0;
    };

    void plan_parts();
    void check_target() const;
    void create_part(const Part& part, const ModelTexts* texts);
    void complete_part(const Part& part, uint64_t fingerprint) const;
    void open_part_of_next_tensor();
    void end_tensor();
    void publish();
    bool sharded() const { return parts_.size() > 1; }

    std::string path_;
    std::string folder_;
    WriteOptions options_;
    std::vector<TensorInfo> tensors_;
    std::vector<int64_t> offsets_;  // of each tensor in its file
    std::vector<Part> parts_;       // where sharded, the last is the main file and holds no tensors
    std::vector<std::string> created_;

    RawFile file_;     // of the part being written
    size_t part_ = 0;  // that part
    size_t tensor_ = 0;
    int64_t done_bytes_ = 0;  // of the tensor
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash_;
    XXH64_hash_t texts_hash_ = 0;
};

}  // namespace mixserve::io
