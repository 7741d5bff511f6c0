#include "io/convert.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace mixserve::io {
namespace {

constexpr int64_t block_bytes = int64_t{8} << 20;
constexpr int64_t tile = 32;

/// out[c, r] = in[r, c] for columns [begin, end) of a matrix.
template <class T>
void transpose_columns(const std::byte* in, int64_t n_rows, int64_t n_columns, int64_t begin, int64_t end,
                       std::byte* out) {
    for (int64_t c0 = begin; c0 < end; c0 += tile) {
        const int64_t c1 = std::min(end, c0 + tile);
        for (int64_t r0 = 0; r0 < n_rows; r0 += tile) {
            const int64_t r1 = std::min(n_rows, r0 + tile);
            for (int64_t c = c0; c < c1; ++c) {
                for (int64_t r = r0; r < r1; ++r) {
                    std::memcpy(out + ((c - begin) * n_rows + r) * int64_t{sizeof(T)},
                                in + (r * n_columns + c) * int64_t{sizeof(T)}, sizeof(T));
                }
            }
        }
    }
}

float widen(const std::byte* element, DType dtype) {
    if (dtype == DType::f32) {
        float value;
        std::memcpy(&value, element, sizeof value);
        return value;
    }
    uint16_t bits;
    std::memcpy(&bits, element, sizeof bits);
    return dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

void narrow(float value, DType dtype, std::byte* element) {
    if (dtype == DType::f32) {
        std::memcpy(element, &value, sizeof value);
        return;
    }
    const uint16_t bits = dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
    std::memcpy(element, &bits, sizeof bits);
}

class Converter {
  public:
    Converter(const ConversionPlan& plan, ModelWriter& writer, const ConvertProgress& progress)
        : writer_(writer), progress_(progress), total_bytes_(plan.n_bytes()) {
        for (const std::string& path : plan.checkpoint.files)
            files_.push_back(RawFile::open_for_reading(path));
    }

    void write(const PlannedTensor& tensor) {
        for (const SourcePiece& piece : tensor.pieces) {
            if (tensor.stored.transposed) {
                write_transposed(tensor, piece);
            } else {
                write_straight(tensor, piece);
            }
        }
    }

  private:
    void write_straight(const PlannedTensor& tensor, const SourcePiece& piece) {
        const int64_t element_bytes = size_of(tensor.source_dtype);
        const int64_t n_bytes = piece.n_rows * piece.n_columns * element_bytes;
        for (int64_t done = 0; done < n_bytes; done += block_bytes) {
            const int64_t n = std::min(block_bytes, n_bytes - done);
            block_.resize(static_cast<size_t>(n));
            files_[piece.file].read(piece.offset + done, block_.data(), n);
            append(tensor, n / element_bytes);
        }
    }

    void write_transposed(const PlannedTensor& tensor, const SourcePiece& piece) {
        const int64_t element_bytes = size_of(tensor.source_dtype);
        const int64_t column_bytes = piece.n_rows * element_bytes;
        matrix_.resize(static_cast<size_t>(piece.n_columns * column_bytes));
        files_[piece.file].read(piece.offset, matrix_.data(), static_cast<int64_t>(matrix_.size()));
        const int64_t n_columns = std::max<int64_t>(1, block_bytes / column_bytes);
        for (int64_t begin = 0; begin < piece.n_columns; begin += n_columns) {
            const int64_t end = std::min(piece.n_columns, begin + n_columns);
            block_.resize(static_cast<size_t>((end - begin) * column_bytes));
            const auto transpose =
                element_bytes == 2 ? transpose_columns<uint16_t> : transpose_columns<uint32_t>;
            transpose(matrix_.data(), piece.n_rows, piece.n_columns, begin, end, block_.data());
            append(tensor, (end - begin) * piece.n_rows);
        }
    }

    /// Appends the `n` elements in `block_`, in the type to be stored.
    void append(const PlannedTensor& tensor, int64_t n) {
        const DType from = tensor.source_dtype;
        const DType to = tensor.stored.dtype;
        const std::vector<std::byte>* data = &block_;
        if (from != to) {
            converted_.resize(static_cast<size_t>(n * size_of(to)));
            for (int64_t i = 0; i < n; ++i)
                narrow(widen(block_.data() + i * size_of(from), from), to,
                       converted_.data() + i * size_of(to));
            data = &converted_;
        }
        writer_.append(data->data(), static_cast<int64_t>(data->size()));
        done_bytes_ += static_cast<int64_t>(data->size());
        if (progress_) progress_(done_bytes_, total_bytes_);
    }

    std::vector<RawFile> files_;
    ModelWriter& writer_;
    const ConvertProgress& progress_;
    int64_t total_bytes_;
    int64_t done_bytes_ = 0;
    std::vector<std::byte> matrix_;
    std::vector<std::byte> block_;
    std::vector<std::byte> converted_;
};

}  // namespace

void convert(const ConversionPlan& plan, const std::string& output, const WriteOptions& options,
             const ConvertProgress& progress) {
    ModelWriter writer(output, plan.checkpoint.texts, plan.stored(), options);
    Converter converter(plan, writer, progress);
    for (const PlannedTensor& tensor : plan.tensors)
        converter.write(tensor);
    writer.finish();
}

}  // namespace mixserve::io
