#include <algorithm>
#include <cstdio>
#include <vector>

#include "app/benches.h"
#include "app/byte_size.h"
#include "app/engine_options.h"
#include "app/options.h"
#include "app/timing.h"
#include "base/error.h"
#include "comm/agree.h"
#include "engine/rank_model.h"
#include "io/raw_file.h"
#include "io/row_writer.h"

namespace mixserve::app {
namespace {

/// As many bytes of the model's files as a rank has weights, each rank's from a place of its own, to new
/// memory: what no load can be faster than.
class PlainRead {
  public:
    PlainRead(const io::ModelFile& model, int64_t n_bytes, int64_t first_byte) : n_bytes_(n_bytes) {
        for (const io::ModelFile::FileInfo& file : model.files()) {
            files_.push_back({io::RawFile::open_for_reading(file.path), file.n_bytes});
            total_ += file.n_bytes;
        }
        first_byte_ = first_byte % total_;
    }

    void run() const {
        constexpr int64_t piece_bytes = int64_t{16} << 20;
        device::Buffer memory(static_cast<size_t>(n_bytes_));
        int64_t place = first_byte_;
        for (int64_t done = 0; done < n_bytes_;) {
            int64_t offset = place;
            size_t f = 0;
            while (offset >= files_[f].n_bytes)
                offset -= files_[f++].n_bytes;
            const int64_t n = std::min({piece_bytes, n_bytes_ - done, files_[f].n_bytes - offset});
            files_[f].file.read(offset, memory.data() + done, n);
            done += n;
            place = (place + n) % total_;
        }
    }

  private:
    struct File {
        io::RawFile file;
        int64_t n_bytes;
    };
    std::vector<File> files_;
    int64_t total_ = 0;
    int64_t n_bytes_;
    int64_t first_byte_ = 0;
};

}  // namespace

int run_bench_load(Arguments arguments) {
    const comm::Communicator world = comm::Communicator::world();
    po::variables_map values;
    EngineOptions options;
    bool help = false;
    comm::agree(world, [&] {
        po::options_description description;
        add_engine_options(description);
        description.add_options()("repetitions", po::value<int>()->default_value(5),
                                  "timed loads, after one that brings the file into memory")(
            "json", po::value<std::string>()->value_name("FILE"), "the figures as JSON");
        help = !parse_options("bench load", description, arguments, values);
        if (help) return;
        options = read_engine_options(values);
        require_usage(!options.dummy, "bench load reads an HDF5 model, so not with --load-format dummy");
        require_usage(values["repetitions"].as<int>() >= 1, "--repetitions: must be at least 1");
    });
    if (help) return exit_ok;
    const comm::Topology topology = comm::make_topology(options.ranks_per_node);
    resolve_backend(options, topology);
    OpenModel model;
    model::RankLayout layout;
    comm::agree(world, [&] {
        model = open_model(options, topology);
        layout = model::make_layout(model.config, options.parallel.strategy, options.parallel.expert_split,
                                    topology);
    });
    device::Stream stream = engine::make_stream(options.parallel);

    int64_t n_bytes = 0;
    const auto load = [&] {
        comm::agree(world, [&] {
            n_bytes = model::load_weights(model.config, layout, *model.weights, stream).n_bytes;
            if (stream.gpu() != nullptr) stream.gpu()->synchronize();
        });
    };
    load();
    std::vector<int64_t> bytes_of_rank(static_cast<size_t>(world.size()));
    bytes_of_rank[static_cast<size_t>(world.rank())] = n_bytes;
    world.all_reduce(std::span<int64_t>(bytes_of_rank), comm::ReduceOp::sum);
    int64_t first_byte = 0;
    for (int rank = 0; rank < world.rank(); ++rank)
        first_byte += bytes_of_rank[static_cast<size_t>(rank)];
    const PlainRead plain(*model.file, n_bytes, first_byte);

    std::vector<double> load_s;
    std::vector<double> read_s;
    for (int i = 0; i < values["repetitions"].as<int>(); ++i) {
        load_s.push_back(slowest_s(world, load));
        read_s.push_back(slowest_s(world, [&] { comm::agree(world, [&] { plain.run(); }); }));
    }
    int64_t total_bytes = 0;
    for (const int64_t n : bytes_of_rank)
        total_bytes += n;
    const double achieved = static_cast<double>(total_bytes) / median(load_s) / 1e9;
    const double limit = static_cast<double>(total_bytes) / median(read_s) / 1e9;
    if (world.rank() != 0) return exit_ok;
    std::printf("%s, %s, %d nodes x %d ranks, %s on all ranks together, %s on the one with most\n",
                options.model_path.c_str(), comm::name(options.parallel.strategy).data(), topology.n_nodes,
                topology.ranks_per_node, byte_size_text(total_bytes).c_str(),
                byte_size_text(*std::max_element(bytes_of_rank.begin(), bytes_of_rank.end())).c_str());
    std::printf(
        "load %9.3f s   achieved %7.2f GB/s, limit (as many bytes of the same files, read in one go) %7.2f, "
        "share %5.1f %%\n",
        median(load_s), achieved, limit, 100 * achieved / limit);
    if (values.count("json") != 0) {
        io::write_file_atomically(values["json"].as<std::string>(),
                                  ordered_json{{"options", to_json(options)},
                                               {"bytes", total_bytes},
                                               {"load_s", load_s},
                                               {"read_s", read_s},
                                               {"achieved_gb_s", achieved},
                                               {"limit_gb_s", limit},
                                               {"share", achieved / limit}}
                                          .dump(2) +
                                      "\n");
    }
    return exit_ok;
}

}  // namespace mixserve::app
