#include "io/model_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/error.h"
#include "io/hdf5_format.h"

namespace mixserve::io {
namespace {

namespace fs = std::filesystem;

std::string folder_of(const std::string& path) {
    const std::string folder = fs::path(path).parent_path().string();
    return folder.empty() ? "." : folder;
}

Hdf5Handle access_list(const std::string& path) {
    Hdf5Handle access = hdf5_own(H5Pcreate(H5P_FILE_ACCESS), path);
    // The names are this process' own, and locks fail on many cluster file systems.
    hdf5_check(H5Pset_file_locking(access.id(), false, true), path);
    // The newest form of HDF5 1.10 keeps checksums of its own metadata.
    hdf5_check(H5Pset_libver_bounds(access.id(), H5F_LIBVER_V110, H5F_LIBVER_V110), path);
    hdf5_check(H5Pset_alignment(access.id(), 1, format_alignment), path);
    return access;
}

/// Creation properties without times, so that the same checkpoint gives the same bytes.
Hdf5Handle timeless(hid_t kind, const std::string& what) {
    Hdf5Handle creation = hdf5_own(H5Pcreate(kind), what);
    hdf5_check(H5Pset_obj_track_times(creation.id(), false), what);
    return creation;
}

void write_text(hid_t file, const char* name, const std::string& text, const std::string& where) {
    const std::string what = fmt::format("{}: /{}", where, name);
    const Hdf5Handle type = hdf5_text_type(text.size());
    const Hdf5Handle space = hdf5_own(H5Screate(H5S_SCALAR), what);
    const Hdf5Handle creation = timeless(H5P_DATASET_CREATE, what);
    const Hdf5Handle dataset = hdf5_own(
        H5Dcreate2(file, name, type.id(), space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT), what);
    hdf5_check(H5Dwrite(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), what);
    write_attribute(dataset.id(), attribute_checksum, XXH3_64bits(text.data(), text.size()));
}

/// Returns the offset of the data in the file.
int64_t create_tensor(hid_t group, const TensorInfo& info, const std::string& where) {
    const std::string what = fmt::format("{}: tensor '{}'", where, info.name);
    const Hdf5Handle type = hdf5_type(info.dtype);
    const std::vector<hsize_t> extent(info.shape.begin(), info.shape.end());
    const Hdf5Handle space =
        hdf5_own(extent.empty() ? H5Screate(H5S_SCALAR)
                                : H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr),
                 what);
    const Hdf5Handle creation = timeless(H5P_DATASET_CREATE, what);
    hdf5_check(H5Pset_layout(creation.id(), H5D_CONTIGUOUS), what);
    hdf5_check(H5Pset_alloc_time(creation.id(), H5D_ALLOC_TIME_EARLY), what);
    hdf5_check(H5Pset_fill_time(creation.id(), H5D_FILL_TIME_NEVER), what);
    const Hdf5Handle dataset = hdf5_own(
        H5Dcreate2(group, info.name.c_str(), type.id(), space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT),
        what);
    write_attribute(dataset.id(), attribute_checksum, uint64_t{0});
    write_attribute(dataset.id(), attribute_transposed, uint64_t{info.transposed});
    if (info.n_bytes() == 0) return 0;
    const haddr_t offset = H5Dget_offset(dataset.id());
    require(offset != HADDR_UNDEF, "{}: HDF5 gave it no place in the file", what);
    return static_cast<int64_t>(offset);
}

int64_t total_bytes(const std::vector<TensorInfo>& tensors) {
    int64_t n = 0;
    for (const TensorInfo& info : tensors)
        n += info.n_bytes();
    return n;
}

/// Files other than the main one of the model at `path`, where there is a readable one that is not a link to
/// elsewhere.
std::vector<std::string> shards_of(const std::string& path) {
    std::vector<std::string> shards;
    if (fs::is_symlink(path)) return shards;
    try {
        for (const ModelFile::FileInfo& file : ModelFile::open(path).files())
            shards.push_back(file.path);
        shards.erase(shards.begin());
    } catch (const Error&) {
        shards.clear();
    }
    return shards;
}

void rename_file(const std::string& from, const std::string& to) {
    const int result = ::rename(from.c_str(), to.c_str());
    require(result == 0, "cannot rename {} to {}: {}", from, to, errno_text(errno));
}

}  // namespace

ModelWriter::ModelWriter(const std::string& path, const ModelTexts& texts, std::vector<TensorInfo> tensors,
                         const WriteOptions& options)
    : path_(path),
      folder_(folder_of(path)),
      options_(options),
      tensors_(std::move(tensors)),
      offsets_(tensors_.size()),
      hash_(XXH3_createState(), XXH3_freeState) {
    plan_parts();
    check_target();
    for (const TextSlot& slot : text_slots) {
        const std::optional<std::string>& text = texts.*slot.member;
        if (text) texts_hash_ = XXH3_64bits_withSeed(text->data(), text->size(), texts_hash_);
    }
    const QuietHdf5 quiet;
    try {
        for (const Part& part : parts_)
            create_part(part, &part == &parts_.back() ? &texts : nullptr);
        XXH3_64bits_reset(hash_.get());
        open_part_of_next_tensor();
    } catch (...) {
        for (const std::string& name : created_)
            ::unlink(name.c_str());
        throw;
    }
}

ModelWriter::~ModelWriter() {
    for (const std::string& name : created_)
        ::unlink(name.c_str());
}

void ModelWriter::plan_parts() {
    const auto add = [&](std::string name, size_t begin, size_t end) {
        std::string temporary = fmt::format("{}.partial-{}", name, ::getpid());
        parts_.push_back({std::move(name), std::move(temporary), begin, end});
    };
    if (options_.shard_bytes <= 0 || total_bytes(tensors_) <= options_.shard_bytes) {
        add(path_, 0, tensors_.size());
        return;
    }
    std::vector<size_t> begins;
    int64_t n_bytes = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
        if (i == 0 || n_bytes + tensors_[i].n_bytes() > options_.shard_bytes) {
            begins.push_back(i);
            n_bytes = 0;
        }
        n_bytes += tensors_[i].n_bytes();
    }
    fs::path stem = path_;
    if (stem.extension() == ".h5") stem.replace_extension();
    for (size_t i = 0; i < begins.size(); ++i) {
        const size_t end = i + 1 < begins.size() ? begins[i + 1] : tensors_.size();
        add(fmt::format("{}-{:05}-of-{:05}.h5", stem.string(), i + 1, begins.size()), begins[i], end);
    }
    add(path_, tensors_.size(), tensors_.size());
}

void ModelWriter::check_target() const {
    require_usage(!fs::path(path_).filename().empty(), "'{}' is not a name for a file", path_);
    std::error_code error;
    require_usage(fs::is_directory(folder_, error), "{} cannot be written: there is no folder {}", path_,
                  folder_);
    const int access = ::access(folder_.c_str(), W_OK | X_OK);
    require_usage(access == 0, "{} cannot be written: folder {}: {}", path_, folder_, errno_text(errno));
    for (const Part& part : parts_) {
        require_usage(!fs::is_directory(part.path), "{} cannot be written: it is a folder", part.path);
        require_usage(options_.overwrite || !fs::exists(part.path),
                      "{} exists; choose another name, or --force to replace it", part.path);
    }
    const fs::space_info space = fs::space(folder_, error);
    const int64_t needed = total_bytes(tensors_);
    require_usage(error || static_cast<uint64_t>(needed) <= space.available,
                  "{} cannot be written: it needs {} bytes, and {} are free in {}", path_, needed,
                  space.available, folder_);
}

void ModelWriter::create_part(const Part& part, const ModelTexts* texts) {
    const Hdf5Handle access = access_list(part.temporary);
    const Hdf5Handle creation = timeless(H5P_FILE_CREATE, part.temporary);
    Hdf5Handle file = hdf5_own(H5Fcreate(part.temporary.c_str(), H5F_ACC_EXCL, creation.id(), access.id()),
                               "cannot create " + part.temporary);
    created_.push_back(part.temporary);
    write_attribute(file.id(), attribute_program, std::string(format_program));
    write_attribute(file.id(), attribute_version, format_version);
    write_attribute(file.id(), attribute_fingerprint, uint64_t{0});
    if (texts != nullptr) {
        for (const TextSlot& slot : text_slots) {
            if (texts->*slot.member)
                write_text(file.id(), slot.dataset, *(texts->*slot.member), part.temporary);
        }
    }
    const Hdf5Handle group_creation = timeless(H5P_GROUP_CREATE, part.temporary);
    Hdf5Handle group = hdf5_own(
        H5Gcreate2(file.id(), group_weights, H5P_DEFAULT, group_creation.id(), H5P_DEFAULT), part.temporary);
    for (size_t i = part.begin; i < part.end; ++i)
        offsets_[i] = create_tensor(group.id(), tensors_[i], part.temporary);
    if (texts != nullptr && sharded()) {
        for (const Part& shard : parts_) {
            const std::string target = fs::path(shard.path).filename().string();
            for (size_t i = shard.begin; i < shard.end; ++i) {
                const std::string object = fmt::format("/{}/{}", group_weights, tensors_[i].name);
                hdf5_check(H5Lcreate_external(target.c_str(), object.c_str(), group.id(),
                                              tensors_[i].name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
                           part.temporary);
            }
        }
    }
    require(group.close() && file.close(), "cannot write {}: {}", part.temporary, hdf5_reason);
}

void ModelWriter::open_part_of_next_tensor() {
    for (; tensor_ < tensors_.size() && tensors_[tensor_].n_bytes() == 0; ++tensor_)
        tensors_[tensor_].checksum = XXH3_64bits(nullptr, 0);
    if (tensor_ == tensors_.size()) return;
    const bool first = file_.path().empty();
    if (!first && tensor_ < parts_[part_].end) return;
    while (tensor_ >= parts_[part_].end)
        ++part_;
    file_ = RawFile::open_for_writing(parts_[part_].temporary);
}

void ModelWriter::append(const void* data, int64_t n_bytes) {
    if (n_bytes == 0) return;
    require(tensor_ < tensors_.size() && n_bytes <= tensors_[tensor_].n_bytes() - done_bytes_,
            "{}: more bytes than the tensor has", path_);
    file_.write(offsets_[tensor_] + done_bytes_, data, n_bytes);
    XXH3_64bits_update(hash_.get(), data, static_cast<size_t>(n_bytes));
    done_bytes_ += n_bytes;
    if (done_bytes_ == tensors_[tensor_].n_bytes()) end_tensor();
}

void ModelWriter::end_tensor() {
    tensors_[tensor_].checksum = XXH3_64bits_digest(hash_.get());
    XXH3_64bits_reset(hash_.get());
    done_bytes_ = 0;
    ++tensor_;
    open_part_of_next_tensor();
}

void ModelWriter::complete_part(const Part& part, uint64_t fingerprint) const {
    const Hdf5Handle access = access_list(part.temporary);
    Hdf5Handle file = hdf5_own(H5Fopen(part.temporary.c_str(), H5F_ACC_RDWR, access.id()), part.temporary);
    overwrite_attribute(file.id(), attribute_fingerprint, fingerprint);
    for (size_t i = part.begin; i < part.end; ++i) {
        const std::string name = fmt::format("/{}/{}", group_weights, tensors_[i].name);
        const Hdf5Handle dataset = hdf5_own(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), part.temporary);
        overwrite_attribute(dataset.id(), attribute_checksum, tensors_[i].checksum);
    }
    require(file.close(), "cannot write {}: {}", part.temporary, hdf5_reason);
    RawFile::open_for_writing(part.temporary).sync();
}

void ModelWriter::finish() {
    require(tensor_ == tensors_.size(), "{}: tensor '{}' was not written to its end", path_,
            tensor_ < tensors_.size() ? tensors_[tensor_].name : "");
    file_ = RawFile();
    XXH3_64bits_reset_withSeed(hash_.get(), texts_hash_);
    for (const TensorInfo& info : tensors_) {
        XXH3_64bits_update(hash_.get(), info.name.data(), info.name.size());
        XXH3_64bits_update(hash_.get(), &info.checksum, sizeof info.checksum);
    }
    const uint64_t fingerprint = XXH3_64bits_digest(hash_.get());
    const QuietHdf5 quiet;
    for (const Part& part : parts_)
        complete_part(part, fingerprint);
    publish();
}

void ModelWriter::publish() {
    std::vector<std::string> replaced = options_.overwrite ? shards_of(path_) : std::vector<std::string>();
    // A main file must at no moment link to shards of another model.
    if (options_.overwrite && (sharded() || !replaced.empty())) ::unlink(path_.c_str());
    for (const Part& part : parts_) {
        rename_file(part.temporary, part.path);
        std::replace(created_.begin(), created_.end(), part.temporary, part.path);
        std::erase_if(replaced, [&](const std::string& old) {
            return fs::path(old).filename() == fs::path(part.path).filename();
        });
    }
    created_.clear();
    for (const std::string& old : replaced)
        ::unlink(old.c_str());
    sync_folder(folder_);
}

}  // namespace mixserve::io
