#include "app/layer_bench.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>
#include <utility>

#include "app/timing.h"
#include "base/clock.h"
#include "device/buffer.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/experts.h"
#include "kernels/linear.h"
#include "kernels/router.h"

namespace mixserve::app {
namespace {

constexpr int64_t block_size = 16;

float* floats(device::Buffer& buffer) {
    return buffer.as<float>().data();
}

/// The same in the stream's memory.
device::Buffer on(device::Stream& stream, device::Buffer host) {
    if (stream.gpu() == nullptr) return host;
    device::Buffer buffer(host.size(), stream.memory());
    stream.gpu()->copy_in(buffer.data(), host.data(), host.size());
    stream.gpu()->synchronize();
    return buffer;
}

template <class T>
device::Buffer on(device::Stream& stream, const std::vector<T>& values) {
    device::Buffer host(values.size() * sizeof(T));
    std::copy(values.begin(), values.end(), host.as<T>().begin());
    return on(stream, std::move(host));
}

device::Buffer float_buffer(int64_t n, device::Stream& stream) {
    device::Buffer buffer(static_cast<size_t>(n) * sizeof(float));
    std::fill_n(floats(buffer), n, 0.01f);
    return on(stream, std::move(buffer));
}

/// `n` values of a small pattern without zeros, infinities or NaN.
device::Buffer stored_buffer(int64_t n, DType dtype, device::Stream& stream) {
    device::Buffer buffer(static_cast<size_t>(n * size_of(dtype)));
    for (int64_t i = 0; i < n; ++i) {
        const float value = static_cast<float>(i * 7919 % 255 - 127 + (i & 1)) * 2e-4f;
        if (dtype == DType::f32) {
            floats(buffer)[i] = value;
        } else {
            buffer.as<uint16_t>()[static_cast<size_t>(i)] =
                dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
        }
    }
    return on(stream, std::move(buffer));
}

/// A layer's weights, cache and activations, and a clock for each kernel.
class LayerBench {
  public:
    LayerBench(const LayerShape& shape, const LayerStep& step, device::Stream& stream,
               const comm::Communicator& world)
        : s_(shape),
          step_(step),
          stream_(stream),
          world_(world),
          q_width_(shape.num_attention_heads * shape.head_dim),
          kv_width_(shape.num_key_value_heads * shape.head_dim),
          qkv_width_(q_width_ + 2 * kv_width_),
          qkv_(stored_buffer(qkv_width_ * shape.hidden_size, shape.dtype, stream)),
          o_(stored_buffer(q_width_ * shape.hidden_size, shape.dtype, stream)),
          router_(stored_buffer(shape.num_experts * shape.hidden_size, shape.dtype, stream)),
          gate_(stored_buffer(expert_values(), shape.dtype, stream)),
          up_(stored_buffer(expert_values(), shape.dtype, stream)),
          down_(stored_buffer(expert_values(), shape.dtype, stream)),
          norm_(float_buffer(shape.hidden_size, stream)),
          x_(float_buffer(step.n_rows * shape.hidden_size, stream)),
          normed_(float_buffer(step.n_rows * shape.hidden_size, stream)),
          qkv_rows_(float_buffer(step.n_rows * qkv_width_, stream)),
          attention_(float_buffer(step.n_rows * q_width_, stream)),
          projected_(float_buffer(step.n_rows * shape.hidden_size, stream)),
          logits_(float_buffer(step.n_rows * shape.num_experts, stream)),
          moe_(float_buffer(step.n_rows * shape.hidden_size, stream)) {
        make_cache();
    }

    void run() {
        const int64_t hidden = s_.hidden_size;
        const int64_t n = step_.n_rows;
        const double rows = static_cast<double>(n);
        draw_routing();
        x_ = float_buffer(n * hidden, stream_);
        const kernels::AttentionBatch batch =
            kernels::plan_attention(sequences_, kv_head_of_, cache_, stream_);
        world_.barrier();
        time("norms", 0, 0, [&] { norm(); });
        time("qkv", matrix_bytes(qkv_width_), 2 * rows * values(hidden, qkv_width_), [&] {
            kernels::linear(floats(normed_), hidden, n,
                            matrix(qkv_, qkv_width_, hidden, kernels::WeightLayout::out_in), nullptr,
                            floats(qkv_rows_), qkv_width_, stream_);
        });
        time("rope, store", 0, 0, [&] {
            kernels::apply_rope(floats(qkv_rows_), qkv_width_,
                                s_.num_attention_heads + s_.num_key_value_heads, s_.head_dim,
                                std::as_const(positions_).as<int32_t>().first(static_cast<size_t>(n)),
                                floats(cos_), floats(sin_), stream_);
            kernels::store_kv(floats(qkv_rows_) + q_width_, floats(qkv_rows_) + q_width_ + kv_width_,
                              qkv_width_, batch, cache_, stream_);
        });
        time("attention", cache_bytes_, attention_flops_, [&] {
            kernels::paged_attention(floats(qkv_rows_), qkv_width_,
                                     1.0f / std::sqrt(static_cast<float>(s_.head_dim)), 0, batch, cache_,
                                     floats(attention_), stream_);
        });
        time("output", matrix_bytes(q_width_), 2 * rows * values(hidden, q_width_), [&] {
            kernels::linear(floats(attention_), q_width_, n,
                            matrix(o_, hidden, q_width_, kernels::WeightLayout::in_out), nullptr,
                            floats(projected_), hidden, stream_);
        });
        time("norms", 0, 0, [&] {
            kernels::add(floats(projected_), n * hidden, floats(x_), stream_);
            norm();
        });
        time("router", matrix_bytes(s_.num_experts), 2 * rows * values(hidden, s_.num_experts), [&] {
            kernels::router_logits(floats(normed_), n,
                                   matrix(router_, s_.num_experts, hidden, kernels::WeightLayout::out_in),
                                   floats(logits_), stream_);
            kernels::route_top_k(floats(logits_), n, s_.num_experts, s_.num_experts_per_tok, true,
                                 chosen_.as<int32_t>().data(), floats(chosen_weights_), stream_);
        });
        const double expert_matrix = values(hidden, 3 * s_.intermediate_size);
        time("experts", n_used_experts_ * expert_matrix * static_cast<double>(size_of(s_.dtype)),
             2 * static_cast<double>(entry_rows_.size()) * expert_matrix, [&] { run_experts(); });
        time("norms", 0, 0, [&] { kernels::add(floats(moe_), n * hidden, floats(x_), stream_); });
    }

    /// Kernels of the last run(), in their order, each once; then the layer.
    std::vector<KernelTime> take_times() {
        std::vector<KernelTime> times;
        KernelTime layer{"layer", seconds_between(spans_.front().begin, spans_.back().end)};
        for (Span& span : spans_) {
            const double seconds = seconds_between(span.begin, span.end);
            const auto found = std::find_if(times.begin(), times.end(),
                                            [&](const KernelTime& t) { return t.name == span.name; });
            if (found != times.end()) {
                found->seconds += seconds;
            } else {
                times.push_back({span.name, seconds, span.n_bytes, span.n_flops});
            }
        }
        for (const KernelTime& t : times) {
            layer.n_bytes += t.n_bytes;
            layer.n_flops += t.n_flops;
        }
        spans_.clear();
        times.push_back(layer);
        return times;
    }

  private:
    int64_t expert_values() const { return s_.num_experts * s_.hidden_size * s_.intermediate_size; }
    static double values(int64_t a, int64_t b) { return static_cast<double>(a) * static_cast<double>(b); }
    double matrix_bytes(int64_t width) const {
        return values(s_.hidden_size, width) * static_cast<double>(size_of(s_.dtype));
    }
    kernels::Weight matrix(const device::Buffer& data, int64_t n_out, int64_t n_in,
                           kernels::WeightLayout layout) const {
        return {data.data(), s_.dtype, layout, n_out, n_in};
    }

    /// A moment: on the host's clock, or on a GPU a place in its queue, so that nothing waits between
    /// kernels.
    struct Mark {
        double host_s = 0;
        std::optional<device::GpuEvent> event;
    };
    struct Span {
        std::string name;
        Mark begin, end;
        double n_bytes, n_flops;
    };

    Mark mark() {
        Mark m{now_s(), std::nullopt};
        if (stream_.gpu() != nullptr) m.event.emplace().record(*stream_.gpu());
        return m;
    }
    static double seconds_between(const Mark& begin, Mark& end) {
        if (!end.event) return end.host_s - begin.host_s;
        end.event->wait();
        return end.event->seconds_since(*begin.event);
    }

    template <class Work>
    void time(const std::string& name, double n_bytes, double n_flops, const Work& work) {
        Mark begin = mark();
        work();
        spans_.push_back({name, std::move(begin), mark(), n_bytes, n_flops});
    }

    void run_experts() {
        const kernels::ExpertWeights weights{gate_.data(),   up_.data(),     down_.data(),        s_.dtype,
                                             s_.num_experts, s_.hidden_size, s_.intermediate_size};
        if (stream_.gpu() != nullptr) {
            kernels::expert_mlp(floats(normed_), step_.n_rows,
                                kernels::ChosenExperts{drawn_.as<int32_t>().data(), floats(drawn_weights_),
                                                       s_.num_experts_per_tok, 0},
                                weights, floats(moe_), stream_);
            return;
        }
        kernels::expert_mlp(floats(normed_), step_.n_rows,
                            kernels::ExpertRows{offsets_, entry_rows_, entry_weights_}, weights, floats(moe_),
                            stream_);
    }

    void norm() {
        kernels::rms_norm(floats(x_), s_.hidden_size, step_.n_rows, s_.hidden_size, floats(norm_), 1e-5f,
                          floats(normed_), s_.hidden_size, stream_);
    }

    void make_cache() {
        const int64_t n_sequences = step_.decode ? step_.n_rows : 1;
        const int64_t length = step_.decode ? step_.context + 1 : step_.n_rows;
        const int64_t n_blocks = (length + block_size - 1) / block_size;
        const int64_t n_values = n_sequences * n_blocks * block_size * kv_width_;
        keys_ = stored_buffer(n_values, s_.kv_dtype, stream_);
        values_ = stored_buffer(n_values, s_.kv_dtype, stream_);
        cache_ = {keys_.data(), values_.data(), s_.kv_dtype, block_size, s_.num_key_value_heads, s_.head_dim};
        block_tables_.resize(static_cast<size_t>(n_sequences * n_blocks));
        std::iota(block_tables_.begin(), block_tables_.end(), 0);
        std::shuffle(block_tables_.begin(), block_tables_.end(), generator_);
        for (int64_t i = 0; i < n_sequences; ++i) {
            const int32_t* table = block_tables_.data() + i * n_blocks;
            sequences_.push_back(
                {i, step_.decode ? 1 : step_.n_rows, step_.decode ? step_.context : 0, table});
        }
        std::vector<int32_t> positions;
        for (int64_t row = 0; row < step_.n_rows; ++row)
            positions.push_back(static_cast<int32_t>(step_.decode ? step_.context : row));
        positions_ = on(stream_, positions);
        const auto n_choices = static_cast<size_t>(step_.n_rows * s_.num_experts_per_tok);
        chosen_ = on(stream_, std::vector<int32_t>(n_choices));
        chosen_weights_ = on(stream_, std::vector<float>(n_choices));
        cos_ = float_buffer(length * s_.head_dim / 2, stream_);
        sin_ = float_buffer(length * s_.head_dim / 2, stream_);
        for (int64_t h = 0; h < s_.num_attention_heads; ++h)
            kv_head_of_.push_back(static_cast<int32_t>(h * s_.num_key_value_heads / s_.num_attention_heads));

        cache_bytes_ =
            2.0 * static_cast<double>(size_of(s_.kv_dtype)) * values(n_sequences * length, kv_width_);
        const double pairs = step_.decode ? values(step_.n_rows, length) : values(length, length + 1) / 2;
        attention_flops_ = 4 * pairs * static_cast<double>(q_width_);
    }

    /// num_experts_per_tok different experts for each row, all alike.
    void draw_routing() {
        std::vector<int32_t> drawn;
        std::vector<std::vector<int32_t>> rows_of(static_cast<size_t>(s_.num_experts));
        std::vector<int32_t> experts(static_cast<size_t>(s_.num_experts));
        std::iota(experts.begin(), experts.end(), 0);
        for (int64_t row = 0; row < step_.n_rows; ++row) {
            for (int64_t i = 0; i < s_.num_experts_per_tok; ++i) {
                std::uniform_int_distribution<int64_t> pick(i, s_.num_experts - 1);
                std::swap(experts[static_cast<size_t>(i)], experts[static_cast<size_t>(pick(generator_))]);
                rows_of[static_cast<size_t>(experts[static_cast<size_t>(i)])].push_back(
                    static_cast<int32_t>(row));
                drawn.push_back(experts[static_cast<size_t>(i)]);
            }
        }
        offsets_.assign(1, 0);
        entry_rows_.clear();
        n_used_experts_ = 0;
        for (const auto& rows : rows_of) {
            entry_rows_.insert(entry_rows_.end(), rows.begin(), rows.end());
            offsets_.push_back(static_cast<int64_t>(entry_rows_.size()));
            n_used_experts_ += rows.empty() ? 0.0 : 1.0;
        }
        entry_weights_.assign(entry_rows_.size(), 1.0f / static_cast<float>(s_.num_experts_per_tok));
        if (stream_.gpu() == nullptr) return;
        drawn_ = on(stream_, drawn);
        drawn_weights_ = on(stream_, entry_weights_);
    }

    LayerShape s_;
    LayerStep step_;
    device::Stream& stream_;
    const comm::Communicator& world_;
    int64_t q_width_, kv_width_, qkv_width_;
    device::Buffer qkv_, o_, router_, gate_, up_, down_, norm_;
    device::Buffer x_, normed_, qkv_rows_, attention_, projected_, logits_, moe_;
    device::Buffer keys_, values_, cos_, sin_, positions_;
    device::Buffer chosen_, chosen_weights_;  // by the router
    device::Buffer drawn_, drawn_weights_;    // what the experts are run with, on a GPU
    kernels::KvCache cache_;
    std::vector<int32_t> block_tables_;
    std::vector<kernels::SequenceRows> sequences_;
    std::vector<int32_t> kv_head_of_;
    double cache_bytes_ = 0;
    double attention_flops_ = 0;
    std::mt19937 generator_{1};
    std::vector<int64_t> offsets_;
    std::vector<int32_t> entry_rows_;
    std::vector<float> entry_weights_;
    double n_used_experts_ = 0;
    std::vector<Span> spans_;
};

double mean(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::vector<KernelTime> measure_layer(const LayerShape& shape, const LayerStep& step, int repetitions,
                                      device::Stream& stream, const comm::Communicator& world) {
    LayerBench bench(shape, step, stream, world);
    for (int i = 0; i < 2; ++i) {
        bench.run();
        bench.take_times();
    }
    std::vector<std::vector<KernelTime>> runs;
    for (int i = 0; i < repetitions; ++i) {
        bench.run();
        runs.push_back(bench.take_times());
    }
    std::vector<KernelTime> result = runs.front();
    for (size_t kernel = 0; kernel < result.size(); ++kernel) {
        std::vector<double> seconds;
        std::vector<double> bytes;
        for (const auto& run : runs) {
            seconds.push_back(run[kernel].seconds);
            bytes.push_back(run[kernel].n_bytes);
        }
        double slowest[] = {median(seconds)};
        world.all_reduce(std::span<double>(slowest), comm::ReduceOp::max);
        double sums[] = {mean(bytes), result[kernel].n_flops};
        world.all_reduce(std::span<double>(sums), comm::ReduceOp::sum);
        result[kernel] = {result[kernel].name, slowest[0], sums[0], sums[1]};
    }
    return result;
}

int64_t weight_bytes(const LayerShape& s) {
    const int64_t attention = (2 * s.num_attention_heads + 2 * s.num_key_value_heads) * s.head_dim;
    const int64_t width = attention + s.num_experts * (1 + 3 * s.intermediate_size);
    return s.hidden_size * width * size_of(s.dtype);
}

}  // namespace mixserve::app
