#!/bin/bash
# Two strategies, one run each, on an emulated cluster of two nodes: figures, tokens, table, and nothing left behind.
# Exit code 77: skipped.
# usage: test_compare_strategies.sh COMPARE_STRATEGIES MIXSERVE
set -euo pipefail
script=$1
mixserve=$2
sources=$(cd "$(dirname "$script")/.." && pwd)
export MINICLUSTER=mxcmptst PYTHONDONTWRITEBYTECODE=1

if [ "$(id -u)" -ne 0 ] || ! unshare --net --uts true 2>/dev/null; then
    echo "SKIPPED: no right to make network namespaces here (needs root)"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"; "$sources/scripts/minicluster" down' EXIT
fail() {
    echo "FAILED: $1" >&2
    exit 1
}
python=python3
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import matplotlib' 2>/dev/null; then python=$candidate; fi
done

compare() {
    "$python" "$script" --model "$sources/inputs/models/shakespeare-moe" --load-format dummy --num-layers 2 --nodes 2 \
        --ranks-per-node 1 --rate 1gbit --strategies fused,tp-ep --repetitions 1 --workload small:4:16:4 \
        --output-dir "$folder/compared" --mixserve "$mixserve" --timeout 300
}
compare
"$python" - "$folder/compared" <<'PYTHON'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
results = {r["strategy"]: r for r in json.loads((folder / "results.json").read_text())["results"]}
assert set(results) == {"fused", "tp-ep"}
for strategy, r in results.items():
    assert r["runs"] == 1 and not r["failures"], r
    assert r["median_ttft_ms"] > 0 and r["output_throughput"] > 0 and r["median_ttft_ms_ratio"] > 0
    assert r["tokens"]["rows"] == 4 and r["tokens"]["equal_rows"] == 4, (strategy, r["tokens"])
assert results["fused"]["median_itl_ms_ratio"] == 1
assert "| 1gbit | small" in (folder / "results.md").read_text()
# The exchange went over the wire: messages of both kinds stand in the trace.
trace = json.loads((folder / "points/1gbit-small-fused-trace/out/trace.json").read_text())
assert {e["name"] for e in trace if e["ph"] == "i"} == {"tokens in", "sums in"}
try:
    import matplotlib
except ImportError:
    sys.exit()
for name in ("strategies.svg", "timeline-1gbit-small.svg"):
    text = (folder / name).read_text()
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>"), name
assert "wire into node 1" in text
PYTHON
[ "$(compare | grep -c 'finished already')" -eq 3 ] || fail "a repeat ran something again"
if ip netns list | grep -q "^$MINICLUSTER"; then fail "nodes are left behind"; fi
echo PASSED
