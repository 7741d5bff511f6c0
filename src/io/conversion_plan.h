#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "io/checkpoint.h"
#include "io/model_file.h"

namespace mixserve::io {

/// A matrix (or a vector: one row) of a checkpoint, contiguous and row-major in a safetensors file.
struct SourcePiece {
    size_t file = 0;  // index into Checkpoint::files
    int64_t offset = 0;
    int64_t n_rows = 1;
    int64_t n_columns = 0;
};

/// A tensor of the model, and what it is made of: its pieces, each transposed where `stored.transposed`, one
/// after the other. Experts are a piece each.
struct PlannedTensor {
    TensorInfo stored;  // without checksum
    DType source_dtype = DType::bf16;
    std::vector<SourcePiece> pieces;
};

struct ConversionPlan {
    Checkpoint checkpoint;
    std::vector<PlannedTensor> tensors;  // layers in the order of their numbers

    /// What the model will hold, for checks against its config.
    std::vector<TensorInfo> stored() const;
    int64_t n_bytes() const;
};

/// Says what a checkpoint becomes, without reading a weight. `dtype`: nullopt keeps each tensor's own.
///
/// Experts of a layer are stacked under the name without their number; checkpoints that have them fused
/// already, as transformers 5 saves them with save_original_format=False (`experts.gate_up_proj` [E, 2I, H],
/// gate first, and `experts.down_proj` [E, H, I]), give the same model. Matrices that tensor parallelism
/// splits along their input are transposed. UsageError names the tensor: experts that are missing or differ
/// in shape or type, types other than bf16, f16 and f32, tensors that are misshapen or there twice.
ConversionPlan plan_conversion(const std::string& hf_dir, std::optional<DType> dtype);

}  // namespace mixserve::io
