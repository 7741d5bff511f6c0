#include "io/model_file.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <unordered_map>

#include "base/error.h"
#include "base/file_calls.h"
#include "base/heartbeat.h"
#include "io/digest.h"
#include "io/hdf5_format.h"
#include "io/raw_file.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;

constexpr int64_t verify_block_bytes = int64_t{8} << 20;

/// Where a tensor's bytes lie.
struct Place {
    size_t file = 0;
    int64_t offset = 0;
};

/// One of a model's files while it is being opened.
struct OpenFile {
    Hdf5Handle handle;
    size_t index;
    int64_t n_bytes;
};

Hdf5Handle open_hdf5(const std::string& path) {
    const FileCallScope opening("opening", path);
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    require_usage(fs::exists(status),
                  "{}: no such file; `mixserve convert` makes a model from a checkpoint folder", path);
    require_usage(!fs::is_directory(status),
                  "{} is a folder, and a model is one file; if it is a checkpoint: `mixserve convert "
                  "--hf-dir {} --output M.h5`",
                  path, path);
    require_usage(fs::file_size(path, error) > 0 && !error, "{} is empty; convert or copy the model again",
                  path);
    const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
    require_usage(is_hdf5 >= 0, "{} cannot be read: {}", path, hdf5_reason);
    require_usage(is_hdf5 > 0,
                  "{} is not an HDF5 file; `mixserve convert` makes a model from a checkpoint folder", path);
    const Hdf5Handle access = hdf5_own(H5Pcreate(H5P_FILE_ACCESS), path);
    // Nobody writes a finished model, and locks fail on many cluster file systems.
    hdf5_check(H5Pset_file_locking(access.id(), false, true), path);
    Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()));
    require_usage(file.valid(),
                  "{} cannot be opened: {}; if it was copied, copy it again, else convert again", path,
                  hdf5_reason);
    return file;
}

void check_format(hid_t file, const std::string& path) {
    std::string program;
    require_usage(read_attribute(file, attribute_program, program) && program == format_program,
                  "{} is an HDF5 file but not a model of this program; `mixserve convert` makes one", path);
    uint64_t version = 0;
    require_usage(read_attribute(file, attribute_version, version), "{} has no format version; convert again",
                  path);
    require_usage(
        version <= format_version,
        "{} has format version {}, and this mixserve reads up to {}; use a newer mixserve or convert again",
        path, version, format_version);
}

uint64_t fingerprint_of(hid_t file, const std::string& path) {
    uint64_t fingerprint = 0;
    require_usage(read_attribute(file, attribute_fingerprint, fingerprint),
                  "{} has no fingerprint; convert again", path);
    return fingerprint;
}

std::optional<std::string> read_text(hid_t file, const char* name, const std::string& path) {
    const FileCallScope reading("reading", path);
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0) return std::nullopt;
    const std::string where = fmt::format("{}: /{}", path, name);
    const Hdf5Handle dataset(H5Dopen2(file, name, H5P_DEFAULT));
    require_usage(dataset.valid(), "{} is damaged ({}); convert again", where, hdf5_reason);
    const Hdf5Handle type(H5Dget_type(dataset.id()));
    const Hdf5Handle space(H5Dget_space(dataset.id()));
    require_usage(H5Tget_class(type.id()) == H5T_STRING && H5Tis_variable_str(type.id()) == 0 &&
                      H5Sget_simple_extent_npoints(space.id()) == 1,
                  "{} is not a string of fixed length; convert again", where);
    const size_t n_bytes = H5Tget_size(type.id());
    require_usage(n_bytes <= H5Dget_storage_size(dataset.id()), "{} is damaged; convert again", where);
    std::string text(n_bytes, '\0');
    require_usage(H5Dread(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) >= 0,
                  "{} cannot be read: {}", where, hdf5_reason);
    uint64_t checksum = 0;
    require_usage(read_attribute(dataset.id(), attribute_checksum, checksum),
                  "{} has no checksum; convert again", where);
    const uint64_t found = XXH3_64bits(text.data(), text.size());
    require_usage(found == checksum,
                  "{} is damaged: its checksum is {:016x} and should be {:016x}; convert or copy again",
                  where, found, checksum);
    return text;
}

herr_t collect_name(hid_t /*group*/, const char* name, const H5L_info_t* /*info*/, void* names) {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
}

std::string shape_text(std::span<const int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

int64_t TensorInfo::n_bytes() const {
    return std::accumulate(shape.begin(), shape.end(), size_of(dtype), std::multiplies<>());
}

struct ModelFile::Impl {
    std::string path;
    ModelTexts texts;
    std::vector<RawFile> files;       // the main one first
    std::vector<TensorInfo> tensors;  // as they lie in the files
    std::vector<Place> places;        // of each tensor
    std::unordered_map<std::string, size_t> index;

    size_t find(const std::string& name) const {
        const auto it = index.find(name);
        require_usage(it != index.end(), "{}: the model has no tensor '{}'", path, name);
        return it->second;
    }

    OpenFile open(const std::string& file_path) {
        Hdf5Handle handle = open_hdf5(file_path);
        check_format(handle.id(), file_path);
        files.push_back(RawFile::open_for_reading(file_path));
        return {std::move(handle), files.size() - 1, files.back().n_bytes()};
    }

    void add_tensor(const OpenFile& file, const std::string& object, const std::string& name);
    void add_weights(const OpenFile& main);
    void sort_by_place();
};

void ModelFile::Impl::add_tensor(const OpenFile& file, const std::string& object, const std::string& name) {
    const FileCallScope reading("reading", files[file.index].path());
    heartbeat.beat();
    const std::string where = fmt::format("{}: tensor '{}'", files[file.index].path(), name);
    const Hdf5Handle dataset(H5Dopen2(file.handle.id(), object.c_str(), H5P_DEFAULT));
    require_usage(dataset.valid(), "{} cannot be opened: {}; convert or copy the model again", where,
                  hdf5_reason);
    TensorInfo info;
    info.name = name;
    const Hdf5Handle type(H5Dget_type(dataset.id()));
    require_usage(hdf5_dtype(type.id(), info.dtype),
                  "{} has an element type other than bf16, f16 and f32; convert again", where);
    const Hdf5Handle space(H5Dget_space(dataset.id()));
    const int n_dimensions = H5Sget_simple_extent_ndims(space.id());
    require_usage(n_dimensions >= 0, "{} has no shape; convert again", where);
    std::vector<hsize_t> extent(static_cast<size_t>(n_dimensions));
    H5Sget_simple_extent_dims(space.id(), extent.data(), nullptr);
    info.shape.assign(extent.begin(), extent.end());
    uint64_t transposed = 0;
    require_usage(read_attribute(dataset.id(), attribute_checksum, info.checksum) &&
                      read_attribute(dataset.id(), attribute_transposed, transposed),
                  "{} lacks an attribute ({} or {}); convert again", where, attribute_checksum,
                  attribute_transposed);
    info.transposed = transposed != 0;

    const Hdf5Handle creation(H5Dget_create_plist(dataset.id()));
    require_usage(H5Pget_layout(creation.id()) == H5D_CONTIGUOUS && H5Pget_external_count(creation.id()) == 0,
                  "{} is not contiguous; convert again", where);
    Place place{file.index, 0};
    if (info.n_bytes() > 0) {
        const haddr_t offset = H5Dget_offset(dataset.id());
        require_usage(offset != HADDR_UNDEF &&
                          H5Dget_storage_size(dataset.id()) == static_cast<hsize_t>(info.n_bytes()),
                      "{} of shape {} has no data or too little; convert again", where,
                      shape_text(info.shape));
        place.offset = static_cast<int64_t>(offset);
        require_usage(place.offset <= file.n_bytes && info.n_bytes() <= file.n_bytes - place.offset,
                      "{} lies past the end of the file, which is truncated; copy or convert the model again",
                      where);
    }
    tensors.push_back(std::move(info));
    places.push_back(place);
}

void ModelFile::Impl::add_weights(const OpenFile& main) {
    require_usage(H5Lexists(main.handle.id(), group_weights, H5P_DEFAULT) > 0, "{} has no /{}; convert again",
                  path, group_weights);
    const Hdf5Handle group(H5Gopen2(main.handle.id(), group_weights, H5P_DEFAULT));
    std::vector<std::string> names;
    require_usage(group.valid() && H5Literate(group.id(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr,
                                              collect_name, &names) >= 0,
                  "{}: /{} is damaged ({}); convert again", path, group_weights, hdf5_reason);

    const fs::path folder = fs::canonical(path).parent_path();
    const uint64_t fingerprint = fingerprint_of(main.handle.id(), path);
    std::map<std::string, OpenFile> shards;
    for (const std::string& name : names) {
        H5L_info_t link{};
        require_usage(H5Lget_info(group.id(), name.c_str(), &link, H5P_DEFAULT) >= 0, "{}: tensor '{}': {}",
                      path, name, hdf5_reason);
        if (link.type != H5L_TYPE_EXTERNAL) {
            add_tensor(main, std::string(group_weights) + "/" + name, name);
            continue;
        }
        std::vector<char> value(link.u.val_size);
        unsigned flags = 0;
        const char* shard_name = nullptr;
        const char* object = nullptr;
        require_usage(H5Lget_val(group.id(), name.c_str(), value.data(), value.size(), H5P_DEFAULT) >= 0 &&
                          H5Lunpack_elink_val(value.data(), value.size(), &flags, &shard_name, &object) >= 0,
                      "{}: tensor '{}' has a damaged link ({}); convert again", path, name, hdf5_reason);
        require_usage(std::string_view(shard_name).find('/') == std::string_view::npos,
                      "{}: tensor '{}' lies in {}, and the files of a model lie in one folder; convert again",
                      path, name, shard_name);
        auto it = shards.find(shard_name);
        if (it == shards.end()) {
            const std::string shard_path = (folder / shard_name).string();
            require_usage(fs::exists(shard_path),
                          "{} is missing: it holds weights of {} and must lie beside it", shard_path, path);
            it = shards.emplace(shard_name, open(shard_path)).first;
            require_usage(
                fingerprint_of(it->second.handle.id(), shard_path) == fingerprint,
                "{} belongs to another model than {}; copy all files of one model, or convert again",
                shard_path, path);
        }
        add_tensor(it->second, object, name);
    }
}

void ModelFile::Impl::sort_by_place() {
    std::vector<size_t> order(tensors.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        const std::string& file_a = files[places[a].file].path();
        const std::string& file_b = files[places[b].file].path();
        return std::tie(file_a, places[a].offset) < std::tie(file_b, places[b].offset);
    });
    std::vector<TensorInfo> sorted_tensors;
    std::vector<Place> sorted_places;
    for (const size_t i : order) {
        index.emplace(tensors[i].name, sorted_tensors.size());
        sorted_tensors.push_back(std::move(tensors[i]));
        sorted_places.push_back(places[i]);
    }
    tensors = std::move(sorted_tensors);
    places = std::move(sorted_places);
}

ModelFile::ModelFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ModelFile::~ModelFile() = default;
ModelFile::ModelFile(ModelFile&&) noexcept = default;
ModelFile& ModelFile::operator=(ModelFile&&) noexcept = default;

ModelFile ModelFile::open(const std::string& path) {
    const QuietHdf5 quiet;
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    const OpenFile main = impl->open(path);
    for (const TextSlot& slot : text_slots)
        impl->texts.*slot.member = read_text(main.handle.id(), slot.dataset, path);
    require_usage(impl->texts.config.has_value(), "{} has no /config; convert again", path);
    impl->add_weights(main);
    impl->sort_by_place();
    return ModelFile(std::move(impl));
}

const std::string& ModelFile::path() const {
    return impl_->path;
}
const std::string& ModelFile::config() const {
    return *impl_->texts.config;
}
const std::optional<std::string>& ModelFile::generation_config() const {
    return impl_->texts.generation_config;
}
const std::optional<std::string>& ModelFile::tokenizer() const {
    return impl_->texts.tokenizer;
}
const std::optional<std::string>& ModelFile::tokenizer_config() const {
    return impl_->texts.tokenizer_config;
}
const std::optional<std::string>& ModelFile::chat_template() const {
    return impl_->texts.chat_template;
}
const std::vector<TensorInfo>& ModelFile::tensors() const {
    return impl_->tensors;
}
bool ModelFile::has(const std::string& name) const {
    return impl_->index.contains(name);
}
const TensorInfo& ModelFile::tensor(const std::string& name) const {
    return impl_->tensors[impl_->find(name)];
}

std::vector<ModelFile::FileInfo> ModelFile::files() const {
    std::vector<FileInfo> all;
    for (const RawFile& file : impl_->files)
        all.push_back({file.path(), file.n_bytes()});
    std::sort(all.begin() + 1, all.end(),
              [](const FileInfo& a, const FileInfo& b) { return a.path < b.path; });
    return all;
}

void ModelFile::read(const std::string& name, std::span<const int64_t> offset, std::span<const int64_t> count,
                     void* out) const {
    const size_t i = impl_->find(name);
    const std::vector<int64_t>& shape = impl_->tensors[i].shape;
    const int64_t element_bytes = size_of(impl_->tensors[i].dtype);
    bool inside = offset.size() == shape.size() && count.size() == shape.size();
    for (size_t d = 0; inside && d < shape.size(); ++d)
        inside = offset[d] >= 0 && count[d] >= 0 && offset[d] <= shape[d] && count[d] <= shape[d] - offset[d];
    require(inside, "{}: tensor '{}' of shape {} has no part at {} of size {}", impl_->path, name,
            shape_text(shape), shape_text(offset), shape_text(count));
    if (std::find(count.begin(), count.end(), 0) != count.end()) return;

    // A run is what lies together: one piece of dimension `split` and all of those after it.
    size_t split = shape.empty() ? 0 : shape.size() - 1;
    int64_t row_bytes = element_bytes;
    while (split > 0 && count[split] == shape[split])
        row_bytes *= shape[split--];
    const int64_t run_bytes = shape.empty() ? row_bytes : count[split] * row_bytes;

    const RawFile& file = impl_->files[impl_->places[i].file];
    std::vector<int64_t> at(offset.begin(), offset.end());
    auto* cursor = static_cast<std::byte*>(out);
    for (;;) {
        int64_t row = 0;
        for (size_t d = 0; d < shape.size() && d <= split; ++d)
            row = row * shape[d] + at[d];
        file.read(impl_->places[i].offset + row * row_bytes, cursor, run_bytes);
        cursor += run_bytes;
        size_t d = split;
        while (d > 0 && ++at[d - 1] == offset[d - 1] + count[d - 1]) {
            at[d - 1] = offset[d - 1];
            --d;
        }
        if (d == 0) return;
    }
}

std::string ModelFile::digest() const {
    std::vector<std::string> parts;
    for (const TensorInfo& info : impl_->tensors) {
        parts.push_back(fmt::format("{} {} {} {} {:016x}", info.name, name(info.dtype),
                                    shape_text(info.shape), info.transposed, info.checksum));
    }
    std::sort(parts.begin(), parts.end());
    for (const TextSlot& slot : text_slots) {
        const std::optional<std::string>& text = impl_->texts.*slot.member;
        parts.push_back(text ? fmt::format("{} {}", slot.dataset, text_digest(*text)) : "");
    }
    return text_digest(fmt::format("{}", fmt::join(parts, "\n")));
}

void ModelFile::verify() const {
    verify({});
}

void ModelFile::verify(const std::function<void(int64_t)>& progress) const {
    std::vector<std::byte> block(static_cast<size_t>(verify_block_bytes));
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
    for (size_t i = 0; i < impl_->tensors.size(); ++i) {
        const TensorInfo& info = impl_->tensors[i];
        const RawFile& file = impl_->files[impl_->places[i].file];
        XXH3_64bits_reset(state.get());
        for (int64_t done = 0; done < info.n_bytes();) {
            const int64_t n = std::min(verify_block_bytes, info.n_bytes() - done);
            file.read(impl_->places[i].offset + done, block.data(), n);
            XXH3_64bits_update(state.get(), block.data(), static_cast<size_t>(n));
            done += n;
            if (progress) progress(n);
        }
        const uint64_t found = XXH3_64bits_digest(state.get());
        require_usage(found == info.checksum,
                      "{}: tensor '{}' is damaged: its checksum is {:016x} and should be {:016x}; copy or "
                      "convert the model "
                      "again",
                      file.path(), info.name, found, info.checksum);
    }
}

}  // namespace mixserve::io
