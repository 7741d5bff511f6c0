#!/bin/bash
# A study of tiny points on this machine: its page and CSV, a point that fails, and a repeat that runs nothing again. Then
# `mixserve report` over the points' folders.
# usage: test_scaling_study.sh SCALING_STUDY MIXSERVE
set -euo pipefail
script=$1
mixserve=$2
sources=$(cd "$(dirname "$script")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1

fail() {
    echo "FAILED: $1" >&2
    exit 1
}
# Of several interpreters the one that can plot, if any can.
python=python3
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import matplotlib' 2>/dev/null; then python=$candidate; fi
done
study() {
    # One layer cannot be a pipeline over two nodes: that point fails.
    "$python" "$script" --model "$sources/inputs/models/shakespeare-moe" --load-format dummy --num-layers 1 --nodes 1,2 \
        --strategies fused,tp-pp --batch-sizes 4 --scaling strong --random-prompts 4:8:4 --output-dir "$folder/study" \
        --mixserve "$mixserve" --timeout 300 "$@" -- --threads-per-rank 1
}

code=0
study >"$folder/first" || code=$?
cat "$folder/first"
[ $code -eq 1 ] || fail "exit code $code with a failed point"
grep -q '^3 of 4 points are finished' "$folder/first" || fail "not 3 of 4 points are finished"

"$python" - "$folder/study/points.csv" <<'PYTHON'
import csv, sys
rows = {row["point"]: row for row in csv.DictReader(open(sys.argv[1]))}
assert len(rows) == 4, list(rows)
one, two = (rows[f"shakespeare-moe-fused-n{n}x1-b4-x1"] for n in (1, 2))
bad = rows["shakespeare-moe-tp-pp-n2x1-b4-x1"]
assert one["state"] == two["state"] == "finished"
assert float(one["strong_efficiency"]) == 1 and 0 < float(two["strong_efficiency"])
assert float(two["experts_max_over_mean"]) >= 1 and float(two["parts_max_over_mean"]) >= 1
assert float(two["busy_max_over_mean"]) >= 1 and two["slowest_rank"] in ("0", "1")
assert abs(sum(float(v) for k, v in two.items() if k.startswith("share_")) - 1) < 0.01
assert bad["state"] == "failed" and bad["message"].startswith("exit code 2: mixserve: "), bad
assert bad["tokens_per_s"] == ""
PYTHON

page=$folder/study/report.html
grep -q 'class="bad"><td>shakespeare-moe-tp-pp-n2x1-b4-x1</td><td>failed</td>' "$page" || fail "the page does not show the failed point"
grep -q 'The phase that grows most is\|No phase takes longer' "$page" || fail "no weak spot in words"
grep -q 'the slowest rank is' "$page" || fail "the slowest rank is not named"
if "$python" -c 'import matplotlib' 2>/dev/null; then
    [ "$(grep -c '</svg>' "$page")" -eq 5 ] || fail "not 5 plots, but $(grep -c '</svg>' "$page")"
else
    grep -q 'matplotlib was not installed' "$page" || fail "the page does not say why it has no plots"
fi
if grep -oE '(src|href)="http[^"]*"' "$page"; then fail "the page needs a network"; fi

find "$folder/study/points" -name job.json -path '*fused*' -printf '%p %T@\n' | sort >"$folder/before"
study >"$folder/second" || true
find "$folder/study/points" -name job.json -path '*fused*' -printf '%p %T@\n' | sort >"$folder/after"
diff "$folder/before" "$folder/after" || fail "a finished point ran again"
[ "$(grep -c 'finished already' "$folder/second")" -eq 3 ] || fail "the repeat does not keep 3 points"
grep -q 'tp-pp-n2x1-b4-x1: failed' "$folder/second" || fail "the repeat does not try the failed point again"

# Other prompts are another point.
study --report-only --random-prompts 4:8:5 >"$folder/third"
grep -q '^0 of 4 points' "$folder/third" || fail "points of other prompts were taken for finished"

# Batch jobs, with stand-ins for Slurm's commands: submitted once, waited for, and collected by a later start.
mkdir "$folder/bin"
cat >"$folder/bin/sbatch" <<'SBATCH'
#!/bin/bash
echo "$@" >>"${0%/*}/submitted"
for argument; do [[ $argument != --output=* ]] || output=${argument#--output=}; done
setsid bash "$argument" >"$output" 2>&1 </dev/null &
echo $!
SBATCH
cat >"$folder/bin/srun" <<'SRUN'
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
SRUN
cat >"$folder/bin/squeue" <<'SQUEUE'
#!/bin/bash
kill -0 "$3" 2>/dev/null && echo RUNNING
SQUEUE
chmod +x "$folder"/bin/*
batch() {
    PATH=$folder/bin:$PATH "$python" "$script" --model "$sources/inputs/models/shakespeare-moe" --load-format dummy \
        --num-layers 1 --nodes 1 --random-prompts 4:8:4 --output-dir "$folder/batch" --mixserve "$mixserve" --timeout 300 \
        --launcher sbatch --sbatch='--partition=cpu --account=x' --srun=--mpi=pmix "$@"
}
batch --no-wait
batch | tee "$folder/fourth"
grep -q '^1 of 1 points are finished' "$folder/fourth" || fail "the batch job was not collected"
[ "$(wc -l <"$folder/bin/submitted")" -eq 1 ] || fail "the job was submitted twice"
grep -q -- '--nodes=1 --ntasks-per-node=1 --time=5 --partition=cpu --account=x' "$folder/bin/submitted" || fail "sbatch got: $(cat "$folder/bin/submitted")"

outputs=("$folder"/study/points/*fused*/out)
"$mixserve" report "${outputs[@]}" --json "$folder/report.json" >"$folder/table"
grep -q 'Rows done  *4 of 4 (100 %)  *4 of 4 (100 %)' "$folder/table" || fail "report: $(cat "$folder/table")"
"$python" - "$folder/report.json" <<'PYTHON'
import json, sys
jobs = json.load(open(sys.argv[1]))["jobs"]
assert [job["state"] for job in jobs] == ["finished"] * 2
assert all(job["output_tokens"] == 16 and job["ttft"]["median_ms"] > 0 for job in jobs)
assert all(job["expert_load"]["experts_max_over_mean"] >= 1 and job["steps"] > 0 for job in jobs)
PYTHON
# Killed within a row, before the summary.
rm "${outputs[0]}/summary.json"
truncate -s -5 "${outputs[0]}/generations.jsonl"
"$mixserve" report "${outputs[0]}" >"$folder/table"
grep -q 'generations.jsonl ends within a row' "$folder/table" || fail "report: $(cat "$folder/table")"
code=0
"$mixserve" report "$folder" "${outputs[1]}" >"$folder/table" 2>"$folder/message" || code=$?
[ $code -eq 1 ] || fail "report of a folder that is none of a job ends with $code"
[ "$(wc -l <"$folder/message")" -eq 1 ] || fail "not one message: $(cat "$folder/message")"
grep -q 'State  *finished' "$folder/table" || fail "the other job is not shown"
echo PASSED
