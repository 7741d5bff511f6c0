#!/bin/bash
# How NCCL's errors end a job, with a library in its place that fails as asked: each names call, communicator, rank
# and remedy, and one that comes later ends a process that waits.
# usage: test_nccl.sh PROGRAM FOLDER-OF-THE-FAKE
set -euo pipefail
program=$1
export LD_LIBRARY_PATH=$2${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
output=$(mktemp)
trap 'rm -f "$output"' EXIT

fail() {
    echo "FAILED: $1"
    cat "$output"
    exit 1
}
run() { # STATUS FAILING-CALL
    local status=0
    FAKE_NCCL_FAILS=$2 timeout -s KILL 60 mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -n 2 \
        "$program" >"$output" 2>&1 || status=$?
    [ "$status" -eq "$1" ] || fail "exit code $status instead of $1 when '$2' fails"
}
says() { grep -qF -- "$1" "$output" || fail "nothing is said of: $1"; }

run 0 nothing
says "rank 1 of 2 is through"
run 3 ncclGetUniqueId
says "ncclGetUniqueId on the NCCL communicator 'test', rank 0 of 2"
run 3 ncclCommInitRank
says "ncclCommInitRank on the NCCL communicator 'test', rank 1 of 2"
says "a fake error (more about it)"
says "NCCL_SOCKET_IFNAME"
run 1 later
says "the job ends: a call on the NCCL communicator 'test'"
if grep -q "is through" "$output"; then fail "the process went on"; fi
echo passed
