// cuBLASLt, loaded when it is first needed: it is half a gigabyte, and a program that runs on CPUs does not
// need it.

#include <cublasLt.h>
#include <dlfcn.h>

#include <compare>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "device/gpu.h"
#include "kernels/cuda/library_product.h"

namespace mixserve::kernels::cuda {
namespace {

constexpr size_t workspace_bytes = size_t{32} << 20;

/// The functions that are used of it. `error` is empty when all were found.
struct Library {
    decltype(&cublasLtCreate) create = nullptr;
    decltype(&cublasLtGetStatusString) status_string = nullptr;
    decltype(&cublasLtMatmul) matmul = nullptr;
    decltype(&cublasLtMatmulAlgoGetHeuristic) choose = nullptr;
    decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
    decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
    cublasLtHandle_t handle = nullptr;
    std::string error;

    Library() {
        void* file = dlopen(MIXSERVE_CUBLASLT_NAME, RTLD_NOW | RTLD_LOCAL);
        if (file == nullptr) file = dlopen(MIXSERVE_CUBLASLT_PATH, RTLD_NOW | RTLD_LOCAL);
        if (file == nullptr) {
            error = dlerror();
            return;
        }
        load(file, "cublasLtCreate", create);
        load(file, "cublasLtGetStatusString", status_string);
        load(file, "cublasLtMatmul", matmul);
        load(file, "cublasLtMatmulAlgoGetHeuristic", choose);
        load(file, "cublasLtMatmulDescCreate", desc_create);
        load(file, "cublasLtMatmulDescDestroy", desc_destroy);
        load(file, "cublasLtMatmulDescSetAttribute", desc_set);
        load(file, "cublasLtMatrixLayoutCreate", layout_create);
        load(file, "cublasLtMatrixLayoutDestroy", layout_destroy);
        load(file, "cublasLtMatmulPreferenceCreate", preference_create);
        load(file, "cublasLtMatmulPreferenceDestroy", preference_destroy);
        load(file, "cublasLtMatmulPreferenceSetAttribute", preference_set);
        if (error.empty()) check(create(&handle), "cublasLtCreate");
    }

    void check(cublasStatus_t status, const char* call) const {
        require(status == CUBLAS_STATUS_SUCCESS,
                "{}: {}, on {}; {} has to fit the driver and the CUDA that this was built with", call,
                status_string(status), device::gpu_in_use().name, MIXSERVE_CUBLASLT_NAME);
    }

  private:
    template <class Function>
    void load(void* file, const char* name, Function& function) {
        function = reinterpret_cast<Function>(dlsym(file, name));
        if (function == nullptr && error.empty())
            error = fmt::format("{} has no {}", MIXSERVE_CUBLASLT_NAME, name);
    }
};

const Library& library() {
    static const Library the_library;
    return the_library;
}

cudaDataType_t type_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return CUDA_R_32F;
        case DType::bf16:
            return CUDA_R_16BF;
        case DType::f16:
            return CUDA_R_16F;
    }
    fail("no such type");
}

/// A product's description, and the algorithm that the library chose for it.
struct Plan {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t w = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t y = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
};

/// Of an address, as far as it matters to the library.
uint32_t alignment_of(const void* p) {
    const auto address = reinterpret_cast<uintptr_t>(p) | 256;
    return static_cast<uint32_t>(address & (~address + 1));
}

/// Of the three matrices. The library would take 256 bytes for granted.
struct Alignments {
    uint32_t w, x, y;
    auto operator<=>(const Alignments&) const = default;
};

// The library counts by columns: y^T [n_out, n_rows] = W^T-or-W times x^T [n_in, n_rows].
Plan make_plan(const Library& lt, int64_t n_rows, const Weight& weight, int64_t y_stride,
               const Alignments& alignments) {
    Plan plan;
    lt.check(lt.desc_create(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const bool out_in = weight.layout == WeightLayout::out_in;
    const cublasOperation_t operation = out_in ? CUBLAS_OP_T : CUBLAS_OP_N;
    lt.check(lt.desc_set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &operation, sizeof operation),
             "cublasLtMatmulDescSetAttribute");
    const auto rows = static_cast<uint64_t>(out_in ? weight.n_in : weight.n_out);
    const auto columns = static_cast<uint64_t>(out_in ? weight.n_out : weight.n_in);
    const cudaDataType_t type = type_of(weight.dtype);
    const char* call = "cublasLtMatrixLayoutCreate";
    lt.check(lt.layout_create(&plan.w, type, rows, columns, static_cast<int64_t>(rows)), call);
    lt.check(lt.layout_create(&plan.x, type, static_cast<uint64_t>(weight.n_in),
                              static_cast<uint64_t>(n_rows), weight.n_in),
             call);
    lt.check(lt.layout_create(&plan.y, CUDA_R_32F, static_cast<uint64_t>(weight.n_out),
                              static_cast<uint64_t>(n_rows), y_stride),
             call);
    cublasLtMatmulPreference_t preference = nullptr;
    lt.check(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    lt.check(lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                               sizeof workspace_bytes),
             "cublasLtMatmulPreferenceSetAttribute");
    for (const auto& [attribute, bytes] :
         {std::pair{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments.w},
          {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments.x},
          {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments.y},
          {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments.y}}) {
        lt.check(lt.preference_set(preference, attribute, &bytes, sizeof bytes),
                 "cublasLtMatmulPreferenceSetAttribute");
    }
    cublasLtMatmulHeuristicResult_t result{};
    int n_found = 0;
    lt.check(
        lt.choose(lt.handle, plan.product, plan.w, plan.x, plan.y, plan.y, preference, 1, &result, &n_found),
        "cublasLtMatmulAlgoGetHeuristic");
    lt.preference_destroy(preference);
    require(n_found == 1, "cuBLASLt has no product for [{}, {}] times [{}, {}]", n_rows, weight.n_in,
            weight.n_in, weight.n_out);
    plan.algorithm = result.algo;
    return plan;
}

/// One for each shape: a model has a handful of matrices, and a step's rows vary.
class Plans {
  public:
    const Plan& plan(const Library& lt, int64_t n_rows, const Weight& w, int64_t y_stride,
                     const Alignments& alignments) {
        const Key key{n_rows, w.n_out, w.n_in, y_stride, w.dtype, w.layout, alignments};
        const auto found = plans_.find(key);
        if (found != plans_.end()) return found->second;
        if (plans_.size() >= max_plans) clear(lt);
        return plans_.emplace(key, make_plan(lt, n_rows, w, y_stride, alignments)).first->second;
    }

  private:
    using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, DType, WeightLayout, Alignments>;
    static constexpr size_t max_plans = 4096;

    void clear(const Library& lt) {
        for (auto& [key, plan] : plans_) {
            lt.layout_destroy(plan.w);
            lt.layout_destroy(plan.x);
            lt.layout_destroy(plan.y);
            lt.desc_destroy(plan.product);
        }
        plans_.clear();
    }

    std::map<Key, Plan> plans_;
};

}  // namespace

bool has_library_products(const char** why) {
    const Library& lt = library();
    if (why != nullptr) *why = lt.error.c_str();
    return lt.error.empty();
}

void library_product(const void* x, int64_t n_rows, const Weight& weight, float* y, int64_t y_stride,
                     device::Stream& stream) {
    static Plans plans;
    const Library& lt = library();
    const Alignments alignments{alignment_of(weight.data), alignment_of(x), alignment_of(y)};
    const Plan& plan = plans.plan(lt, n_rows, weight, y_stride, alignments);
    void* workspace = stream.device_scratch(device::ScratchSlot::library, workspace_bytes);
    const float one = 1.0F;
    const float zero = 0.0F;
    lt.check(lt.matmul(lt.handle, plan.product, &one, weight.data, plan.w, x, plan.x, &zero, y, plan.y, y,
                       plan.y, &plan.algorithm, workspace, workspace_bytes,
                       static_cast<cudaStream_t>(stream.gpu()->handle())),
             "cublasLtMatmul");
}

}  // namespace mixserve::kernels::cuda
