#include "model/weights.h"

#include <algorithm>

#include "base/error.h"
#include "base/heartbeat.h"
#include "base/stop.h"
#include "device/upload_ring.h"
#include "model/names.h"

namespace mixserve::model {
namespace {

std::string shape_text(std::span<const int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Reads tensors of one rank and counts their bytes.
class Loader {
  public:
    Loader(const WeightSource& source, device::Stream& stream, const LoadProgress& progress)
        : source_(source), stream_(stream), progress_(progress) {
        if (stream.gpu() != nullptr) pieces_.emplace();
    }

    const io::TensorInfo& checked(const std::string& name, std::vector<int64_t> shape,
                                  bool transposed) const {
        const io::TensorInfo& info = source_.tensor(name);
        require_usage(
            info.shape == shape && info.transposed == transposed,
            "tensor '{}' has the stored shape {}, and the config asks for {}; convert the checkpoint again",
            name, shape_text(info.shape), shape_text(shape));
        return info;
    }

    /// Elements `range` of a vector, widened to f32.
    std::vector<float> vector(const std::string& name, int64_t size, Range range) {
        const io::TensorInfo& info = checked(name, {size}, false);
        std::vector<float> values(static_cast<size_t>(range.size()));
        std::vector<std::byte> stored(static_cast<size_t>(range.size() * size_of(info.dtype)));
        const int64_t offset[] = {range.begin};
        const int64_t count[] = {range.size()};
        source_.read(name, offset, count, stored.data());
        for (size_t i = 0; i < values.size(); ++i) {
            if (info.dtype == DType::f32) {
                values[i] = reinterpret_cast<const float*>(stored.data())[i];
            } else {
                const uint16_t bits = reinterpret_cast<const uint16_t*>(stored.data())[i];
                values[i] = info.dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
            }
        }
        done(static_cast<int64_t>(stored.size()));
        return values;
    }

    Vector placed(std::span<const float> values) const { return {values, stream_}; }
    Vector placed_vector(const std::string& name, int64_t size, Range range) {
        return placed(vector(name, size, range));
    }
    Vector placed_vector(const std::string& name, int64_t size) {
        return placed_vector(name, size, {0, size});
    }

    /// Rows `range` of a stored matrix [n_rows, n_columns]. Stored transposed, rows are inputs, else outputs.
    Matrix matrix(const std::string& name, int64_t n_rows, int64_t n_columns, Range range, bool transposed) {
        const Part part{name, n_rows, range};
        return stacked({&part, 1}, n_columns, transposed);
    }

    struct Part {
        std::string name;
        int64_t n_rows;
        Range range;
    };

    /// The named row ranges one below the other.
    Matrix stacked(std::span<const Part> parts, int64_t n_columns, bool transposed) {
        int64_t n_rows = 0;
        const DType dtype = source_.tensor(parts[0].name).dtype;
        for (const Part& part : parts) {
            const io::TensorInfo& info = checked(part.name, {part.n_rows, n_columns}, transposed);
            require_usage(info.dtype == dtype,
                          "tensor '{}' is {}, and '{}' is {}; convert with --dtype to make them alike",
                          part.name, mixserve::name(info.dtype), parts[0].name, mixserve::name(dtype));
            n_rows += part.range.size();
        }
        Matrix m{device::Buffer(static_cast<size_t>(n_rows * n_columns * size_of(dtype)), stream_.memory()),
                 {}};
        std::byte* cursor = m.storage.data();
        for (const Part& part : parts) {
            const int64_t offset[] = {part.range.begin, 0};
            const int64_t count[] = {part.range.size(), n_columns};
            read(part.name, offset, count, dtype, cursor);
            cursor += part.range.size() * n_columns * size_of(dtype);
        }
        using kernels::WeightLayout;
        m.weight = transposed
                       ? kernels::Weight{m.storage.data(), dtype, WeightLayout::in_out, n_columns, n_rows}
                       : kernels::Weight{m.storage.data(), dtype, WeightLayout::out_in, n_rows, n_columns};
        done(static_cast<int64_t>(m.storage.size()));
        return m;
    }

    MlpWeights mlp(const std::string& prefix, int64_t intermediate, int64_t hidden, Range part) {
        return {matrix(prefix + "gate_proj.weight", intermediate, hidden, part, false),
                matrix(prefix + "up_proj.weight", intermediate, hidden, part, false),
                matrix(prefix + "down_proj.weight", intermediate, hidden, part, true)};
    }

    device::Buffer experts(const std::string& name, const ModelConfig& c, Range experts, Range part,
                           bool transposed) {
        const io::TensorInfo& info =
            checked(name, {c.num_experts, c.moe_intermediate_size, c.hidden_size}, transposed);
        const int64_t offset[] = {experts.begin, part.begin, 0};
        const int64_t count[] = {experts.size(), part.size(), c.hidden_size};
        device::Buffer buffer(
            static_cast<size_t>(experts.size() * part.size() * c.hidden_size * size_of(info.dtype)),
            stream_.memory());
        if (buffer.size() > 0) read(name, offset, count, info.dtype, buffer.data());
        done(static_cast<int64_t>(buffer.size()));
        return buffer;
    }

    int64_t n_bytes() const { return n_bytes_; }

  private:
    void done(int64_t n_bytes) {
        n_bytes_ += n_bytes;
        heartbeat.beat();
        throw_if_stopped();
        if (progress_) progress_(n_bytes_);
    }

    /// A hyperslab to where it stays. `target` is contiguous.
    void read(const std::string& name, std::span<const int64_t> offset, std::span<const int64_t> count,
              DType dtype, std::byte* target) {
        if (stream_.gpu() == nullptr) return source_.read(name, offset, count, target);
        int64_t n_bytes = size_of(dtype);
        for (const int64_t n : count)
            n_bytes *= n;
        const auto cut = std::find_if(count.begin(), count.end(), [](int64_t n) { return n > 1; });
        if (n_bytes <= piece_bytes || cut == count.end()) {
            const auto size = static_cast<size_t>(n_bytes);
            source_.read(name, offset, count, pieces_->begin(size));
            pieces_->send(target, size, *stream_.gpu());
            return;
        }
        // In two, along the first dimension that has more than one: both halves are contiguous.
        const auto d = static_cast<size_t>(cut - count.begin());
        std::vector<int64_t> half_offset(offset.begin(), offset.end());
        std::vector<int64_t> half_count(count.begin(), count.end());
        half_count[d] = count[d] / 2;
        read(name, half_offset, half_count, dtype, target);
        target += n_bytes / count[d] * half_count[d];
        half_offset[d] += half_count[d];
        half_count[d] = count[d] - half_count[d];
        read(name, half_offset, half_count, dtype, target);
    }

    static constexpr int64_t piece_bytes = int64_t{32} << 20;

    const WeightSource& source_;
    device::Stream& stream_;
    const LoadProgress& progress_;
    std::optional<device::UploadRing> pieces_;  // on a GPU
    int64_t n_bytes_ = 0;
};

ExpertStorage load_experts(const ModelConfig& c, const RankLayout& layout, const LayerNames& names,
                           const WeightSource& source, Loader& loader) {
    const comm::ExpertPlacement& place = layout.experts;
    const Range part = partition(c.moe_intermediate_size, place.intermediate_parts, place.intermediate_part);
    ExpertStorage e{loader.experts(names.experts_gate, c, place.experts, part, false),
                    loader.experts(names.experts_up, c, place.experts, part, false),
                    loader.experts(names.experts_down, c, place.experts, part, true),
                    {}};
    e.weights = {e.gate.data(),        e.up.data(),   e.down.data(), source.tensor(names.experts_gate).dtype,
                 place.experts.size(), c.hidden_size, part.size()};
    return e;
}

LayerWeights load_layer(const ModelConfig& c, const RankLayout& layout, int64_t index,
                        const WeightSource& source, Loader& loader) {
    const LayerNames names(c, index);
    const std::string attention = names.prefix + "self_attn.";
    const Range q{layout.q_heads.begin * c.head_dim, layout.q_heads.end * c.head_dim};
    const Range kv{layout.kv_heads.begin * c.head_dim, layout.kv_heads.end * c.head_dim};

    LayerWeights w;
    w.index = index;
    w.sparse = c.sparse[static_cast<size_t>(index)];
    w.input_norm = loader.placed_vector(names.prefix + "input_layernorm.weight", c.hidden_size);
    w.post_attention_norm =
        loader.placed_vector(names.prefix + "post_attention_layernorm.weight", c.hidden_size);
    const Loader::Part parts[] = {{attention + "q_proj.weight", c.q_size(), q},
                                  {attention + "k_proj.weight", c.kv_size(), kv},
                                  {attention + "v_proj.weight", c.kv_size(), kv}};
    w.qkv = loader.stacked(parts, c.hidden_size, false);
    if (c.qkv_bias) {
        std::vector<float> stacked;
        for (const auto& [name, size, range] :
             {std::tuple{"q_proj.bias", c.q_size(), q}, std::tuple{"k_proj.bias", c.kv_size(), kv},
              std::tuple{"v_proj.bias", c.kv_size(), kv}}) {
            const std::vector<float> bias = loader.vector(attention + name, size, range);
            stacked.insert(stacked.end(), bias.begin(), bias.end());
        }
        w.qkv_bias = loader.placed(stacked);
    }
    if (c.qk_norm == QkNorm::per_head) {
        w.q_norm = loader.placed_vector(attention + "q_norm.weight", c.head_dim);
        w.k_norm = loader.placed_vector(attention + "k_norm.weight", c.head_dim);
    } else if (c.qk_norm == QkNorm::all_heads) {
        w.q_norm = loader.placed_vector(attention + "q_norm.weight", c.q_size(), q);
        w.k_norm = loader.placed_vector(attention + "k_norm.weight", c.kv_size(), kv);
    }
    w.o = loader.matrix(attention + "o_proj.weight", c.q_size(), c.hidden_size, q, true);
    if (c.o_bias) w.o_bias = loader.placed_vector(attention + "o_proj.bias", c.hidden_size);

    if (!w.sparse) {
        w.dense = loader.mlp(names.prefix + "mlp.", c.dense_intermediate_size, c.hidden_size,
                             partition(c.dense_intermediate_size, layout.tp_size, layout.tp_rank));
        return w;
    }
    w.router = loader.matrix(names.router, c.num_experts, c.hidden_size, {0, c.num_experts}, false);
    w.experts = load_experts(c, layout, names, source, loader);
    if (c.shared_expert_intermediate_size > 0) {
        w.shared_expert =
            loader.mlp(names.prefix + "mlp.shared_expert.", c.shared_expert_intermediate_size, c.hidden_size,
                       partition(c.shared_expert_intermediate_size, layout.tp_size, layout.tp_rank));
        w.shared_expert_gate =
            loader.matrix(names.prefix + "mlp.shared_expert_gate.weight", 1, c.hidden_size, {0, 1}, false);
    }
    return w;
}

}  // namespace

Weights load_weights(const ModelConfig& config, const RankLayout& layout, const WeightSource& source,
                     device::Stream& stream, const LoadProgress& progress) {
    Loader loader(source, stream, progress);
    Weights w;
    const auto vocabulary_rows = [&](const std::string& name) {
        return loader.matrix(name, config.vocab_size, config.hidden_size, layout.vocabulary, false);
    };
    const bool tied = config.tie_word_embeddings;
    if (layout.has_embedding || (tied && layout.has_head))
        w.embedding = vocabulary_rows("model.embed_tokens.weight");
    for (int64_t l = layout.layers.begin; l < layout.layers.end; ++l) {
        w.layers.push_back(load_layer(config, layout, l, source, loader));
    }
    if (layout.has_head) {
        w.final_norm = loader.placed_vector("model.norm.weight", config.hidden_size);
        if (!tied) w.lm_head = vocabulary_rows("lm_head.weight");
        w.lm_head_weight = tied ? w.embedding.weight : w.lm_head.weight;
    }
    w.n_bytes = loader.n_bytes();
    return w;
}

}  // namespace mixserve::model
