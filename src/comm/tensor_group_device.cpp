#include <vector>

#include "comm/tensor_group_parts.h"
#include "kernels/elementwise.h"

namespace mixserve::comm {
namespace {

/// Rows in device memory, which travel through the host: `host` is the group of the same ranks there. A group
/// of one rank copies nothing out.
class StagedTensorGroup final : public TensorGroup {
  public:
    StagedTensorGroup(std::unique_ptr<TensorGroup> host, device::Stream& stream)
        : host_(std::move(host)), stream_(stream) {}

    int rank() const override { return host_->rank(); }
    int size() const override { return host_->size(); }
    using TensorGroup::start_gather;
    using TensorGroup::start_reduce;

    float* start_gather(std::span<const int64_t> rows_of_rank, int64_t width) override {
        gather_rows_.assign(rows_of_rank.begin(), rows_of_rank.end());
        gather_ = row_layout(rows_of_rank, rank(), width);
        return reserve(gathered_, gather_.n_values());
    }

    const float* finish_gather() override {
        float* rows = gathered_.as<float>().data();
        if (size() == 1) return rows;
        const int64_t first = gather_.owned.begin * gather_.width;
        float* staged = host_->start_gather(gather_rows_, gather_.width);
        copy_out(staged + first, rows + first, gather_.owned.size() * gather_.width);
        const float* all = host_->finish_gather();
        stream_.upload(rows, all, bytes(gather_.n_values()));
        return rows;
    }

    float* start_reduce(std::span<const int64_t> rows_of_rank, int64_t width) override {
        reduce_rows_.assign(rows_of_rank.begin(), rows_of_rank.end());
        reduction_ = row_layout(rows_of_rank, rank(), width);
        return reserve(partials_, reduction_.n_values());
    }

    void finish_reduce(float* out, bool accumulate) override {
        const float* sum = partials_.as<float>().data();
        const int64_t n = reduction_.owned.size() * reduction_.width;
        if (size() > 1) {
            float* staged = host_->start_reduce(reduce_rows_, reduction_.width);
            copy_out(staged, sum, reduction_.n_values());
            sum_.resize(static_cast<size_t>(n));
            host_->finish_reduce(sum_.data(), false);
            auto* arrived =
                reinterpret_cast<float*>(stream_.device_scratch(device::ScratchSlot::staging_in, bytes(n)));
            stream_.upload(arrived, sum_.data(), bytes(n));
            sum = arrived;
        }
        if (accumulate) {
            kernels::add(sum, n, out, stream_);
        } else {
            stream_.gpu()->copy_inside(out, sum, bytes(n));
        }
    }

    void barrier() override { host_->barrier(); }

  private:
    static size_t bytes(int64_t n_values) { return static_cast<size_t>(n_values) * sizeof(float); }
    static float* reserve(device::Buffer& buffer, int64_t n_values) {
        buffer.reserve(bytes(n_values), device::Memory::device);
        return buffer.as<float>().data();
    }
    void copy_out(float* host, const float* device, int64_t n_values) {
        stream_.gpu()->copy_out(host, device, bytes(n_values));
        stream_.gpu()->synchronize();
    }

    std::unique_ptr<TensorGroup> host_;
    device::Stream& stream_;
    std::vector<int64_t> gather_rows_, reduce_rows_;
    RowLayout gather_, reduction_;
    device::Buffer gathered_, partials_;
    std::vector<float> sum_;
};

}  // namespace

std::unique_ptr<TensorGroup> make_tensor_group(const Communicator& communicator, bool shares_memory,
                                               PhaseTimer& timer, device::Stream& stream,
                                               GpuTransport transport) {
    if (stream.gpu() != nullptr && transport == GpuTransport::nccl && communicator.size() > 1)
        return make_nccl_tensor_group(communicator, timer, stream);
    auto host = make_tensor_group(communicator, shares_memory, timer);
    if (stream.gpu() == nullptr) return host;
    return std::make_unique<StagedTensorGroup>(std::move(host), stream);
}

}  // namespace mixserve::comm
