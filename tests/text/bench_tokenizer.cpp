// bench_tokenizer TOKENIZER.json TEXT: encodes a UTF-8 text, in pieces of about 4 KiB that end at a line end
// and as a whole, on one thread, and prints bytes by processor time of each.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace {

using namespace mixserve;

constexpr int repetitions = 3;
constexpr size_t piece_bytes = 4096;

/// Of this process, which has one thread: other work on the machine does not count.
double cpu_seconds() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

std::string read(const char* path) {
    std::ifstream file(path, std::ios::binary);
    require_usage(file.good(), "cannot read {}", path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string_view> pieces_of(std::string_view text) {
    std::vector<std::string_view> pieces;
    while (!text.empty()) {
        const size_t line_end = text.find('\n', std::min(piece_bytes, text.size() - 1));
        const size_t n = line_end == std::string_view::npos ? text.size() : line_end + 1;
        pieces.push_back(text.substr(0, n));
        text.remove_prefix(n);
    }
    return pieces;
}

void measure(const char* name, const text::Tokenizer& tokenizer,
             const std::vector<std::string_view>& pieces) {
    double best_s = 0;
    size_t n_bytes = 0;
    size_t n_ids = 0;
    for (int repetition = 0; repetition <= repetitions; ++repetition) {  // the first warms up
        n_bytes = n_ids = 0;
        const double start_s = cpu_seconds();
        for (const std::string_view piece : pieces) {
            n_ids += tokenizer.encode(piece, false).size();
            n_bytes += piece.size();
        }
        const double s = cpu_seconds() - start_s;
        if (repetition == 1 || (repetition > 1 && s < best_s)) best_s = s;
    }
    std::printf("%s: %.1f MB/s (%.2f MB, %zu pieces, %zu ids, best of %d)\n", name,
                static_cast<double>(n_bytes) / best_s / 1e6, static_cast<double>(n_bytes) / 1e6,
                pieces.size(), n_ids, repetitions);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        require_usage(argc == 3, "usage: bench_tokenizer TOKENIZER.json TEXT");
        const double start_s = cpu_seconds();
        const text::Tokenizer tokenizer = text::Tokenizer::from_json(read(argv[1]));
        std::printf("load: %.0f ms\n", (cpu_seconds() - start_s) * 1e3);
        const std::string text = read(argv[2]);
        measure("pieces", tokenizer, pieces_of(text));
        measure("whole", tokenizer, {text});
    } catch (const Error& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return e.exit_code();
    }
}
