// A libnccl.so.2 that moves nothing, and fails where FAKE_NCCL_FAILS says: the name of a call, or "later" for
// an error that is found after the fact. So what the program does then is tested without GPUs.

#include <nccl.h>

#include <cstdlib>
#include <cstring>

namespace {

ncclResult_t result_of(const char* call) {
    const char* failing = std::getenv("FAKE_NCCL_FAILS");
    return failing != nullptr && std::strcmp(failing, call) == 0 ? ncclSystemError : ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId*) {
    return result_of("ncclGetUniqueId");
}
const char* ncclGetErrorString(ncclResult_t) {
    return "a fake error";
}
const char* ncclGetLastError(ncclComm_t) {
    return "more about it";
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int, ncclUniqueId, int) {
    static int communicator = 0;
    *comm = reinterpret_cast<ncclComm_t>(&communicator);
    return result_of("ncclCommInitRank");
}
ncclResult_t ncclCommDestroy(ncclComm_t) {
    return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t) {
    return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) {
    *error = result_of("later");
    return ncclSuccess;
}
ncclResult_t ncclAllGather(const void*, void*, size_t, ncclDataType_t, ncclComm_t, cudaStream_t) {
    return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
                           cudaStream_t) {
    return ncclSuccess;
}
ncclResult_t ncclReduceScatter(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
                               cudaStream_t) {
    return ncclSuccess;
}
ncclResult_t ncclSend(const void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) {
    return ncclSuccess;
}
ncclResult_t ncclRecv(void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) {
    return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
    return ncclSuccess;
}
}
