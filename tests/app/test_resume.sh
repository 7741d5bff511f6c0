#!/bin/bash
# What --resume, --shard, merge and --config with a run.json promise, on the sample model. usage: test_resume.sh MIXSERVE
set -euo pipefail
program=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
mounted=
first=
cleanup() {
    [ -z "$first" ] || kill "$first" 2>/dev/null || true
    [ -z "$mounted" ] || umount "$mounted"
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

export OMPI_MCA_btl_vader_single_copy_mechanism=none
launcher=(mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
[ "$(id -u)" -ne 0 ] || launcher+=(--allow-run-as-root)

fail() {
    echo "FAILED: $*" >&2
    [ ! -e log ] || cat log >&2
    exit 1
}
# expect CODE COMMAND...: runs it with its output in the file log.
expect() {
    local wanted=$1 code=0
    shift
    "$@" >log 2>&1 || code=$?
    [ "$code" = "$wanted" ] || fail "exit code $code instead of $wanted: $*"
}
says() { grep -qF -- "$1" log || fail "the message lacks '$1'"; }
job() { "${launcher[@]}" -n "$ranks" "$program" run --model model.h5 --ranks-per-node 1 --threads-per-rank 1 "$@"; }
on_prompts() { job --input-file prompts.jsonl "$@"; }
# The rows without what differs from run to run.
rows() { jq -cS 'del(.metrics) | if .response then del(.response.body.created) else . end' "$@" | sort; }
same_rows() { diff <(rows reference/generations.jsonl) <(rows "$@") >different || fail "other rows: $(head -c 600 different)"; }

"$program" convert --hf-dir "$source/inputs/models/shakespeare-moe" --output model.h5 >/dev/null
for i in $(seq 24); do
    case $((i % 6)) in
        0) echo "{\"prompt\": \"Line $i has no id\", \"max_tokens\": 9, \"temperature\": 0}" ;;
        1) echo "{\"id\": \"n$i\", \"prompt\": \"To be\", \"max_tokens\": 12, \"n\": 2}" ;;
        2) echo "{\"id\": \"bad$i\", \"prompt\": \"x\", \"top_p\": 7}" ;;
        3) echo "{\"id\": \"n$((i - 2))\", \"prompt\": \"a doubled id\"}" ;;
        4) echo "{\"custom_id\": \"b$i\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": \"O\"}}" ;;
        5) echo "{\"id\": \"s$i\", \"prompt\": \"ROMEO. But\", \"max_tokens\": 20, \"seed\": $i}" ;;
    esac
done >prompts.jsonl
ranks=2

# --resume on a new folder just starts, so that a jobscript can always pass it.
expect 0 on_prompts --output-dir reference --resume
[ "$(wc -l <reference/generations.jsonl)" = 24 ] || fail "not a row a prompt"

# Nothing is left to do: nothing is done.
cp -r reference finished
expect 0 on_prompts --output-dir finished --resume
says "nothing is left to do"
diff -r -x job.lock reference finished >/dev/null || fail "a complete folder was changed"
expect 2 on_prompts --output-dir finished
says "is not empty"

# A torn row, and steps: cut off, the rest goes on.
cp -r reference torn
{ head -n 14 reference/generations.jsonl && sed -n 15p reference/generations.jsonl | head -c 20; } >torn/generations.jsonl
truncate -s -5 torn/steps.jsonl
rm torn/summary.json
expect 0 on_prompts --output-dir torn --resume
says "torn row"
same_rows torn/generations.jsonl
jq -e '.completed + .failed == 24 and .starts == 2 and .rows_before == 14 and .latencies_of.start == 2 and .latencies_of.rows > 0 and
    .latencies_of.rows <= 10' torn/summary.json >/dev/null || fail "summary: $(cat torn/summary.json)"
jq -e '.starts | length == 2 and .[0].rows_before == 0 and .[1].rows_before == 14' torn/run.json >/dev/null || fail "run.json: no history"
jq -s -e '[.[].step] == [range(length)] and ([.[].time_s] | sort) == [.[].time_s]' torn/steps.jsonl >/dev/null || fail "steps do not go on"

# The same ids, whatever the ranks and the batches.
head -n 5 reference/generations.jsonl >torn/generations.jsonl
ranks=1
expect 0 on_prompts --output-dir torn --resume --max-num-seqs 3 --strategy tp
ranks=2
diff <(jq -c '[.custom_id // .id, .error]' reference/generations.jsonl | sort) <(jq -c '[.custom_id // .id, .error]' torn/generations.jsonl | sort) ||
    fail "other prompts"

# Damage before whole rows is nothing to guess about.
cp -r reference damaged
sed -i '3s/^{/ /' damaged/generations.jsonl
cp -r damaged damaged-before
expect 2 on_prompts --output-dir damaged --resume
says "line 3 of"
diff -r -x job.lock damaged damaged-before >/dev/null || fail "a refused folder was changed"

# Another job is refused, with what differs.
head -n 5 reference/generations.jsonl >finished/generations.jsonl
cp -r finished finished-before
expect 2 on_prompts --output-dir finished --resume --seed 7
says "seed is 7 now and was 0"
expect 2 on_prompts --output-dir finished --resume --temperature 0.5 --kv-cache-dtype bf16
says "temperature is 0.5 now"
says "kv-cache-dtype is bf16 now and was f32"
expect 2 on_prompts --output-dir finished --resume --shard 0/2
says "shard is 0/2 now and was 0/1"
sed 's/ROMEO/JULIET/' prompts.jsonl >changed.jsonl
expect 2 job --input-file changed.jsonl --output-dir finished --resume
says "input-file is"
mv model.h5 kept.h5
"$program" convert --hf-dir "$source/inputs/models/shakespeare-moe" --output model.h5 --dtype f32 >/dev/null
expect 2 on_prompts --output-dir finished --resume
says "model is"
# The same model elsewhere and in several files is the same model.
"$program" convert --hf-dir "$source/inputs/models/shakespeare-moe" --output model.h5 --shard-size 10MiB --force >/dev/null
diff -r -x job.lock finished finished-before >/dev/null || fail "a refused folder was changed"
expect 0 on_prompts --output-dir finished --resume
same_rows finished/generations.jsonl
mv kept.h5 model.h5
head -n 5 reference/generations.jsonl >finished/generations.jsonl
expect 0 on_prompts --output-dir finished --resume-anyway --seed 7
says "are of another job"
[ "$(wc -l <finished/generations.jsonl)" = 24 ] || fail "--resume-anyway: not a row a prompt"

# run.json repeats the job.
expect 2 "${launcher[@]}" -n 2 "$program" run --config reference/run.json
says "give an --output-dir"
expect 2 "${launcher[@]}" -n 2 "$program" score --config reference/run.json --output-dir again
says "is of 'mixserve run'"
mkdir elsewhere
expect 0 env -C elsewhere "${launcher[@]}" -n 2 "$program" run --config ../reference/run.json --output-dir ../again
same_rows again/generations.jsonl
jq -e '.build | .git_revision and .compiler and .libraries.MPI and .libraries.HDF5 and .libraries.Boost' again/run.json >/dev/null ||
    fail "run.json: build"
jq -e '(.model.digest | length == 32) and (.input.digest | length == 32) and (.cpus[0].cores > 0)' again/run.json >/dev/null ||
    fail "run.json: digests"

# Shards make the rows of the whole, and merge tells what is not there.
for i in 0 1 2; do expect 0 on_prompts --output-dir "shard$i" --shard "$i/3"; done
expect 0 "$program" merge shard0 shard1 shard2 --output-dir merged
same_rows merged/generations.jsonl
expect 1 "$program" merge shard0 shard2 --output-dir partly
says "8 prompts have no row"
[ ! -e partly/generations.jsonl ] || fail "merge wrote in spite of missing rows"
expect 1 "$program" merge shard0 shard2 shard0 --output-dir partly --partial
says "8 prompts have more than one row"
[ "$(wc -l <partly/generations.jsonl)" = 16 ] || fail "merge --partial: not a row a prompt"
expect 2 "$program" merge shard0 again --output-dir mixed1 --input-file changed.jsonl
says "is not the input"

# A second job on the folder of a running one, which has work for minutes; then the folder goes away.
for _ in $(seq 20000); do echo '{"prompt": "To be, or", "max_tokens": 20, "ignore_eos": true}'; done >long.jsonl
job --input-file long.jsonl --output-dir busy --max-num-seqs 4 >busy.log 2>&1 &
first=$!
for _ in $(seq 1200); do
    [ ! -s busy/generations.jsonl ] || break
    sleep 0.1
done
[ -s busy/generations.jsonl ] || fail "the job has no row after two minutes: $(cat busy.log)"
expect 2 job --input-file long.jsonl --output-dir busy --resume
says "held by process"
says "on host $(hostname)"
expect 2 "$program" merge busy --output-dir mixed2
says "held by process"
rm -r busy
code=0
wait "$first" || code=$?
first=
[ "$code" = 1 ] || fail "exit code $code after the output folder was removed: $(cat busy.log)"
grep -q "was removed or moved" busy.log || fail "no word about the removed folder: $(cat busy.log)"

# A full disk.
mkdir small
if mount -t tmpfs -o size=64k none small 2>/dev/null; then
    mounted=$folder/small
    for _ in $(seq 300); do echo '{"prompt": "To be, or", "max_tokens": 30}'; done >many.jsonl
    expect 1 job --input-file many.jsonl --output-dir small/out
    says "No space left on device"
    jq -c .id small/out/generations.jsonl >/dev/null || fail "rows of a full disk are not whole"
    mount -o remount,size=8m small
    expect 0 job --input-file many.jsonl --output-dir small/out --resume
    [ "$(jq -c .id small/out/generations.jsonl | sort -un | wc -l)" = 300 ] || fail "rows are missing after a full disk"
    [ "$(wc -l <small/out/generations.jsonl)" = 300 ] || fail "rows are doubled after a full disk"
else
    echo "without the full disk: a small file system cannot be mounted here"
fi

# score goes on alike.
score() { "${launcher[@]}" -n 2 "$program" score --model model.h5 --input-file prompts.jsonl --ranks-per-node 1 --threads-per-rank 1 "$@"; }
expect 0 score --output-dir scores
cp -r scores scores2
rm scores2/summary.json
head -c $(($(wc -c <scores/scores.jsonl) / 2)) scores/scores.jsonl >scores2/scores.jsonl
expect 0 score --output-dir scores2 --resume
diff <(sort scores/scores.jsonl) <(sort scores2/scores.jsonl) >/dev/null || fail "score: other rows"
jq -e --slurpfile other scores/summary.json '(.perplexity - $other[0].perplexity | fabs) < 1e-6' scores2/summary.json >/dev/null ||
    fail "score: another perplexity"
echo PASSED
