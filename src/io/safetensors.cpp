#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/raw_file.h"

namespace mixserve::io {
namespace {

static_assert(std::endian::native == std::endian::little, "weights are stored little-endian");

constexpr int64_t length_bytes = 8;  // the header's length, in front of it

/// Bits of an element of every type of the format, whether we compute with it or not; 0 for other names.
int64_t bits_of(std::string_view dtype) {
    using Entry = std::pair<std::string_view, int64_t>;
    static constexpr std::array<Entry, 20> types{{
        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},    {"U8", 8},
        {"I8", 8},          {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
        {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
        {"I32", 32},        {"U32", 32},    {"F32", 32},    {"F64", 64},    {"C64", 64},
    }};
    if (dtype == "I64" || dtype == "U64") return 64;
    const auto* it =
        std::find_if(types.begin(), types.end(), [&](const Entry& e) { return e.first == dtype; });
    return it == types.end() ? 0 : it->second;
}

std::optional<int64_t> product(const std::vector<int64_t>& shape, int64_t bits) {
    int64_t n = bits;
    for (const int64_t size : shape) {
        if (__builtin_mul_overflow(n, size, &n)) return std::nullopt;
    }
    return n;
}

json parse_header_json(std::string_view header, const std::string& where) {
    std::set<std::string> names;
    std::optional<std::string> doubled;
    const json::parser_callback_t find_doubled = [&](int depth, json::parse_event_t event, json& value) {
        if (event == json::parse_event_t::key && depth == 1 && !names.insert(value.get<std::string>()).second)
            doubled = value.get<std::string>();
        return true;
    };
    json object;
    try {
        object = json::parse(header, find_doubled);
    } catch (const json::exception& e) {
        fail_usage("{} is not a safetensors file: its header is not JSON ({})", where, e.what());
    }
    require_usage(object.is_object(), "{} is not a safetensors file: its header is not a JSON object", where);
    require_usage(!doubled, "{}: tensor '{}' is there twice", where, doubled.value_or(""));
    return object;
}

std::vector<int64_t> unsigned_integers(const json& entry, const char* key, const std::string& what) {
    const auto it = entry.find(key);
    require_usage(it != entry.end() && it->is_array(), "{} has no list '{}'", what, key);
    std::vector<int64_t> values;
    for (const json& value : *it) {
        const bool fits = value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT64_MAX};
        require_usage(fits, "{} has the value {} in '{}', which must hold sizes", what, value.dump(), key);
        values.push_back(value.get<int64_t>());
    }
    return values;
}

SafeTensor parse_entry(const std::string& name, const json& entry, int64_t data_offset, int64_t data_bytes,
                       const std::string& where) {
    const std::string what = fmt::format("{}: tensor '{}'", where, name);
    require_usage(
        !name.empty() && name != "." && name.find_first_of(std::string_view("/\0", 2)) == std::string::npos,
        "{}: '{}' is not a name for a tensor", where, name);
    require_usage(entry.is_object(), "{} is not described by a JSON object", what);
    const auto dtype = entry.find("dtype");
    require_usage(dtype != entry.end() && dtype->is_string(), "{} has no 'dtype'", what);
    SafeTensor tensor;
    tensor.name = name;
    tensor.stored_dtype = dtype->get<std::string>();
    const int64_t bits = bits_of(tensor.stored_dtype);
    require_usage(bits > 0, "{} has the unknown type '{}'", what, tensor.stored_dtype);
    if (tensor.stored_dtype == "F32" || tensor.stored_dtype == "F16" || tensor.stored_dtype == "BF16")
        tensor.dtype = parse_dtype(tensor.stored_dtype);
    tensor.shape = unsigned_integers(entry, "shape", what);
    const std::vector<int64_t> range = unsigned_integers(entry, "data_offsets", what);
    require_usage(range.size() == 2 && range[0] <= range[1], "{} has bad 'data_offsets'", what);
    require_usage(
        range[1] <= data_bytes,
        "{} ends at byte {} of the data, of which there are {}: the file is truncated; download it again",
        what, range[1], data_bytes);
    tensor.offset = data_offset + range[0];
    tensor.n_bytes = range[1] - range[0];
    const std::optional<int64_t> n_bits = product(tensor.shape, bits);
    require_usage(n_bits && *n_bits % 8 == 0 && *n_bits / 8 == tensor.n_bytes,
                  "{} has {} bytes, which is not what type {} and shape [{}] make", what, tensor.n_bytes,
                  tensor.stored_dtype, fmt::join(tensor.shape, ", "));
    return tensor;
}

}  // namespace

std::vector<SafeTensor> parse_safetensors_header(std::string_view header, int64_t file_bytes,
                                                 const std::string& where) {
    const int64_t data_offset = length_bytes + static_cast<int64_t>(header.size());
    const int64_t data_bytes = file_bytes - data_offset;
    const json object = parse_header_json(header, where);
    std::vector<SafeTensor> tensors;
    for (const auto& [name, entry] : object.items()) {
        if (name != "__metadata__")
            tensors.push_back(parse_entry(name, entry, data_offset, data_bytes, where));
    }
    std::stable_sort(tensors.begin(), tensors.end(), [](const SafeTensor& a, const SafeTensor& b) {
        return std::pair(a.offset, a.n_bytes) < std::pair(b.offset, b.n_bytes);
    });
    int64_t end = data_offset;
    for (size_t i = 0; i < tensors.size(); ++i) {
        require_usage(tensors[i].offset >= end, "{}: tensors '{}' and '{}' overlap", where,
                      tensors[i > 0 ? i - 1 : 0].name, tensors[i].name);
        require_usage(tensors[i].offset == end, "{}: the {} bytes before tensor '{}' belong to none", where,
                      tensors[i].offset - end, tensors[i].name);
        end += tensors[i].n_bytes;
    }
    require_usage(end == file_bytes, "{}: the last {} bytes belong to no tensor", where, file_bytes - end);
    return tensors;
}

std::vector<SafeTensor> read_safetensors_header(const std::string& path) {
    const RawFile file = RawFile::open_for_reading(path);
    const int64_t file_bytes = file.n_bytes();
    require_usage(file_bytes >= length_bytes, "{} is not a safetensors file: it has {} bytes", path,
                  file_bytes);
    std::array<char, length_bytes> start{};
    file.read(0, start.data(), length_bytes);
    require_usage(std::string_view(start.data(), start.size()) != "version ",
                  "{} is a Git LFS pointer and not the weights; fetch them with `git lfs pull`", path);
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, start.data(), sizeof header_bytes);
    require_usage(header_bytes <= uint64_t{max_safetensors_header_bytes},
                  "{} is not a safetensors file: its header would have {} bytes", path, header_bytes);
    require_usage(static_cast<int64_t>(header_bytes) <= file_bytes - length_bytes,
                  "{} is truncated: its header of {} bytes passes the end; download it again", path,
                  header_bytes);
    std::string header(header_bytes, '\0');
    file.read(length_bytes, header.data(), static_cast<int64_t>(header.size()));
    return parse_safetensors_header(header, file_bytes, path);
}

}  // namespace mixserve::io
