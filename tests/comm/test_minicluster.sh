#!/bin/bash
# The emulated cluster: real node borders, the stated rate, and nothing left behind. Exit code 77: skipped.
# usage: test_minicluster.sh MINICLUSTER TEST_PROGRAM
set -euo pipefail
minicluster=$1
program=$2
export MINICLUSTER=mxtest

if [ "$(id -u)" -ne 0 ] || ! unshare --net --uts true 2>/dev/null; then
    echo "SKIPPED: no right to make network namespaces here (needs root)"
    exit 77
fi
fail() {
    echo "FAILED: $1" >&2
    exit 1
}
left_behind() {
    ip netns list 2>/dev/null | grep "^mxtest" || true
    ip -o link show 2>/dev/null | grep "mxtest" || true
    find /run /dev/shm -maxdepth 1 -name '*mxtest*'
}

"$minicluster" down
# The cluster goes with this test, even when the test is killed.
"$minicluster" up --nodes 2 --rate 1gbit --while $$
"$minicluster" status | grep -q "mxtest1" || fail "status does not name node 1"
if "$minicluster" up --nodes 2 2>/dev/null; then fail "a second cluster of the same name came up"; fi

hosts=$("$minicluster" run -n 4 -- hostname | sort | uniq -c | awk '{print $2 "x" $1}' | paste -sd ' ')
[ "$hosts" = "mxtest0x2 mxtest1x2" ] || fail "4 ranks ran on: $hosts"
# As in a batch job: mpirun is on the first node, and starts the ranks there itself.
# shellcheck disable=SC2016  # expanded in the rank
parents=$("$minicluster" run -n 2 -- sh -c 'echo "$(hostname) $(cat /proc/$PPID/comm)"' | sort | paste -sd ' ')
[ "$parents" = "mxtest0 mpirun mxtest1 orted" ] || fail "the ranks were started by: $parents"
code=0
"$minicluster" run -n 2 -- sh -c 'exit 3' 2>/dev/null || code=$?
[ "$code" -eq 3 ] || fail "exit code $code of ranks that end with 3"
"$minicluster" run -n 4 -- "$program" --gtest_brief=1 || fail "the exchange is wrong between nodes"

"$minicluster" run -n 2 -- sleep 60 &
job=$!
sleep 1
kill -KILL $job
"$minicluster" down
sleep 0.5
[ -z "$(left_behind)" ] || fail "left behind: $(left_behind)"

sleep 60 &
owner=$!
"$minicluster" up --nodes 1 --while $owner
kill -KILL $owner
for _ in $(seq 50); do
    [ -n "$(left_behind)" ] || break
    sleep 0.1
done
[ -z "$(left_behind)" ] || fail "left behind after the owner was killed: $(left_behind)"

if "$minicluster" run -- true 2>/dev/null; then fail "run works without a cluster"; fi
if "$minicluster" up --nodes 0 2>/dev/null; then fail "a cluster of no nodes came up"; fi
echo "PASSED"
