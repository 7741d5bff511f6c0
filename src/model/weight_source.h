#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "io/model_file.h"
#include "model/config.h"

namespace mixserve::model {

/// Where weights come from: an HDF5 model, or numbers made from a seed. Shapes are those of the HDF5 model.
class WeightSource {
  public:
    virtual ~WeightSource() = default;
    /// UsageError when there is no such tensor.
    virtual const io::TensorInfo& tensor(const std::string& name) const = 0;
    virtual void read(const std::string& name, std::span<const int64_t> offset,
                      std::span<const int64_t> count, void* out) const = 0;
};

/// The file is borrowed.
std::unique_ptr<WeightSource> weights_from_file(const io::ModelFile& file);

/// Random weights of the config's dtype: an element's value depends on the seed, the tensor's name and its
/// place in the whole tensor, so that every layout gets the same model.
std::unique_ptr<WeightSource> dummy_weights(const ModelConfig& config, uint64_t seed);

/// Every tensor that the model has, with its stored shape (dtype: the config's).
std::vector<io::TensorInfo> expected_tensors(const ModelConfig& config);

/// UsageError when a tensor of the model is missing or has another shape, or there is one that the model has
/// no use for. `where` names the file or folder.
void check_tensors(const ModelConfig& config, std::span<const io::TensorInfo> tensors,
                   const std::string& where);

}  // namespace mixserve::model
