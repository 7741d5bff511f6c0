#include "io/conversion_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace mixserve::io {
namespace {

/// Tensors that no forward pass reads: what they hold is computed.
constexpr std::array<std::string_view, 1> dropped_suffixes{".rotary_emb.inv_freq"};

/// Matrices whose input dimension tensor parallelism splits.
constexpr std::array<std::string_view, 3> transposed_suffixes{".o_proj.weight", ".down_proj.weight",
                                                              ".w2.weight"};

constexpr std::string_view experts_part = ".experts.";

template <size_t n>
bool ends_with_any(std::string_view name, const std::array<std::string_view, n>& suffixes) {
    return std::any_of(suffixes.begin(), suffixes.end(),
                       [&](std::string_view s) { return name.ends_with(s); });
}

/// Digits compare as numbers, so that layer 10 comes after layer 9.
bool natural_less(std::string_view a, std::string_view b) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto take_number = [&](std::string_view& text) {
        size_t n = 0;
        while (n < text.size() && is_digit(text[n]))
            ++n;
        const std::string_view number = text.substr(0, n);
        text.remove_prefix(n);
        return number;
    };
    while (!a.empty() && !b.empty()) {
        if (is_digit(a.front()) && is_digit(b.front())) {
            const std::string_view x = take_number(a);
            const std::string_view y = take_number(b);
            if (x != y) return x.size() != y.size() ? x.size() < y.size() : x < y;
            continue;
        }
        if (a.front() != b.front()) return a.front() < b.front();
        a.remove_prefix(1);
        b.remove_prefix(1);
    }
    return a.empty() && !b.empty();
}

/// What the plan needs to know of config.json.
struct ConfigFacts {
    bool mixtral = false;
    std::optional<int64_t> n_experts;
};

ConfigFacts read_facts(const std::string& text, const std::string& folder) {
    const json config = json::parse(text, nullptr, false);
    require_usage(config.is_object(), "{}/config.json is not a JSON object; download it again", folder);
    ConfigFacts facts;
    const auto type = config.find("model_type");
    facts.mixtral = type != config.end() && *type == "mixtral";
    for (const char* key : {"num_experts", "num_local_experts"}) {
        const auto count = config.find(key);
        if (count != config.end() && count->is_number_integer()) facts.n_experts = count->get<int64_t>();
    }
    return facts;
}

/// transformers 5 calls Mixtral's `block_sparse_moe` `mlp`, in memory and in what it saves fused.
std::string original_name(const std::string& name, const ConfigFacts& facts) {
    constexpr std::string_view part = ".mlp.";
    const size_t at = name.find(part);
    if (!facts.mixtral || at == std::string::npos) return name;
    return name.substr(0, at) + ".block_sparse_moe." + name.substr(at + part.size());
}

/// "a.experts.7.b" is expert 7 of "a.experts.b".
struct ExpertName {
    std::string stack;
    int64_t number;
};

std::optional<ExpertName> parse_expert(const std::string& name) {
    const size_t at = name.find(experts_part);
    if (at == std::string::npos) return std::nullopt;
    const size_t begin = at + experts_part.size();
    const size_t end = name.find('.', begin);
    if (end == std::string::npos) return std::nullopt;
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(name.data() + begin, name.data() + end, number);
    if (error != std::errc() || stop != name.data() + end || number < 0) return std::nullopt;
    if (std::to_string(number).size() != end - begin) return std::nullopt;
    return ExpertName{name.substr(0, begin) + name.substr(end + 1), number};
}

class Planner {
  public:
    Planner(const Checkpoint& checkpoint, std::optional<DType> dtype)
        : checkpoint_(checkpoint),
          dtype_(dtype),
          facts_(read_facts(*checkpoint.texts.config, checkpoint.folder)) {}

    std::vector<PlannedTensor> plan() {
        for (const CheckpointTensor& source : checkpoint_.tensors) {
            if (ends_with_any(source.tensor.name, dropped_suffixes)) continue;
            check_type(source.tensor);
            const std::string name = original_name(source.tensor.name, facts_);
            if (const std::optional<ExpertName> expert = parse_expert(name)) {
                const bool fresh = stacks_[expert->stack].emplace(expert->number, &source).second;
                require_usage(fresh, "{}: tensor '{}' is there twice", checkpoint_.folder,
                              source.tensor.name);
            } else if (name.ends_with(".experts.gate_up_proj")) {
                add_fused_gate_up(source, name);
            } else if (name.ends_with(".experts.down_proj")) {
                add_fused_down(source, name);
            } else {
                add_plain(source, name);
            }
        }
        for (const auto& [name, experts] : stacks_)
            add_stack(name, experts);
        std::vector<PlannedTensor> planned;
        for (auto& [name, tensor] : planned_)
            planned.push_back(std::move(tensor));
        std::sort(planned.begin(), planned.end(), [](const PlannedTensor& a, const PlannedTensor& b) {
            return natural_less(a.stored.name, b.stored.name);
        });
        return planned;
    }

  private:
    using Experts = std::map<int64_t, const CheckpointTensor*>;

    std::string where(const SafeTensor& tensor) const {
        return fmt::format("{}: tensor '{}'", checkpoint_.folder, tensor.name);
    }

    void check_type(const SafeTensor& tensor) const {
        require_usage(tensor.dtype.has_value(),
                      "{} has the type {}, and this program computes with BF16, F16 and F32; use a "
                      "checkpoint that is not "
                      "quantized",
                      where(tensor), tensor.stored_dtype);
        require_usage(tensor.n_bytes > 0, "{} is empty", where(tensor));
    }

    PlannedTensor& add(const std::string& name, const SafeTensor& source, std::vector<int64_t> shape,
                       bool transposed) {
        PlannedTensor tensor;
        tensor.stored = {name, dtype_.value_or(*source.dtype), std::move(shape), transposed, 0};
        tensor.source_dtype = *source.dtype;
        const auto [it, fresh] = planned_.emplace(name, std::move(tensor));
        require_usage(fresh, "{} is there twice: as '{}' and in another form", where(source), name);
        return it->second;
    }

    /// The shape of one matrix as stored; `source` is named in errors.
    std::vector<int64_t> stored_shape(const SafeTensor& source, bool transposed) const {
        require_usage(!transposed || source.shape.size() == 2, "{} has the shape [{}] and should be a matrix",
                      where(source), fmt::join(source.shape, ", "));
        std::vector<int64_t> shape = source.shape;
        if (transposed) std::swap(shape[0], shape[1]);
        return shape;
    }

    static SourcePiece whole(const CheckpointTensor& source, bool transposed) {
        const int64_t n = source.tensor.n_bytes / size_of(*source.tensor.dtype);
        const int64_t n_rows = transposed ? source.tensor.shape[0] : 1;
        return {source.file, source.tensor.offset, n_rows, n / n_rows};
    }

    void add_plain(const CheckpointTensor& source, const std::string& name) {
        const bool transposed = ends_with_any(name, transposed_suffixes);
        add(name, source.tensor, stored_shape(source.tensor, transposed), transposed).pieces = {
            whole(source, transposed)};
    }

    void add_stack(const std::string& name, const Experts& experts) {
        const SafeTensor& first = experts.begin()->second->tensor;
        const int64_t n_experts = facts_.n_experts.value_or(experts.rbegin()->first + 1);
        for (int64_t e = 0; e < n_experts; ++e) {
            const size_t at = name.rfind(experts_part) + experts_part.size();
            require_usage(experts.contains(e),
                          "{}: tensor '{}{}.{}' is missing, of {} experts; download the checkpoint again",
                          checkpoint_.folder, name.substr(0, at), e, name.substr(at), n_experts);
        }
        const CheckpointTensor* last = experts.rbegin()->second;
        require_usage(experts.rbegin()->first < n_experts,
                      "{} is of an expert that config.json, with {} experts, has not", where(last->tensor),
                      n_experts);
        const bool transposed = ends_with_any(name, transposed_suffixes);
        std::vector<int64_t> shape = stored_shape(first, transposed);
        shape.insert(shape.begin(), n_experts);
        PlannedTensor& planned = add(name, first, std::move(shape), transposed);
        for (const auto& [number, source] : experts) {
            const SafeTensor& expert = source->tensor;
            require_usage(expert.shape == first.shape && expert.dtype == first.dtype,
                          "{} is {} [{}] and differs from '{}', which is {} [{}]", where(expert),
                          expert.stored_dtype, fmt::join(expert.shape, ", "), first.name, first.stored_dtype,
                          fmt::join(first.shape, ", "));
            planned.pieces.push_back(whole(*source, transposed));
        }
    }

    /// `n_parts` matrices one below the other in each expert's matrix; takes number `part`.
    void add_fused(const CheckpointTensor& source, const std::string& name, int64_t n_parts, int64_t part,
                   bool transposed) {
        const SafeTensor& tensor = source.tensor;
        require_usage(tensor.shape.size() == 3 && tensor.shape[1] % n_parts == 0,
                      "{} has the shape [{}] and should be [experts, {}rows, columns]", where(tensor),
                      fmt::join(tensor.shape, ", "), n_parts == 2 ? "2 x " : "");
        const int64_t n_rows = tensor.shape[1] / n_parts;
        const int64_t n_columns = tensor.shape[2];
        PlannedTensor& planned = add(
            name, tensor, {tensor.shape[0], transposed ? n_columns : n_rows, transposed ? n_rows : n_columns},
            transposed);
        const int64_t piece_bytes = n_rows * n_columns * size_of(*tensor.dtype);
        for (int64_t e = 0; e < tensor.shape[0]; ++e) {
            planned.pieces.push_back(
                {source.file, tensor.offset + (e * n_parts + part) * piece_bytes, n_rows, n_columns});
        }
    }

    void add_fused_gate_up(const CheckpointTensor& source, const std::string& name) {
        const std::string prefix = name.substr(0, name.rfind('.') + 1);
        add_fused(source, prefix + (facts_.mixtral ? "w1.weight" : "gate_proj.weight"), 2, 0, false);
        add_fused(source, prefix + (facts_.mixtral ? "w3.weight" : "up_proj.weight"), 2, 1, false);
    }

    void add_fused_down(const CheckpointTensor& source, const std::string& name) {
        const std::string prefix = name.substr(0, name.rfind('.') + 1);
        add_fused(source, prefix + (facts_.mixtral ? "w2.weight" : "down_proj.weight"), 1, 0, true);
    }

    const Checkpoint& checkpoint_;
    std::optional<DType> dtype_;
    ConfigFacts facts_;
    std::map<std::string, Experts> stacks_;
    std::map<std::string, PlannedTensor> planned_;
};

}  // namespace

std::vector<TensorInfo> ConversionPlan::stored() const {
    std::vector<TensorInfo> all;
    for (const PlannedTensor& tensor : tensors)
        all.push_back(tensor.stored);
    return all;
}

int64_t ConversionPlan::n_bytes() const {
    int64_t n = 0;
    for (const PlannedTensor& tensor : tensors)
        n += tensor.stored.n_bytes();
    return n;
}

ConversionPlan plan_conversion(const std::string& hf_dir, std::optional<DType> dtype) {
    ConversionPlan plan;
    plan.checkpoint = open_checkpoint(hf_dir);
    plan.tensors = Planner(plan.checkpoint, dtype).plan();
    return plan;
}

}  // namespace mixserve::io
