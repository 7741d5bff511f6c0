#!/bin/bash
# --backend from end to end: with the emulated GPU the same tokens as on the CPU, greedy and drawn, on one rank and on four that
# share it; refusals; and what --backend cpu and auto do without a GPU.
# usage: test_backend.sh MIXSERVE MIXSERVE_EMULATED
set -euo pipefail
mixserve=$1
emulated=$2
sample=$(cd "$(dirname "$0")/../.." && pwd)/inputs/models/shakespeare-moe
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
on_ranks() { mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -n "$@"; }

fail() {
    echo "FAILED: $1"
    exit 1
}
refuses() { # WORDS COMMAND...
    local words=$1 status=0
    shift
    "$@" >"$work/refused" 2>&1 || status=$?
    [ "$status" -eq 2 ] || fail "exit code $status instead of 2: $*"
    grep -qF -- "$words" "$work/refused" || fail "no '$words' in: $(cat "$work/refused")"
}

"$mixserve" convert --hf-dir "$sample" --output "$work/model.h5" >/dev/null
cat >"$work/prompts.jsonl" <<'PROMPTS'
{"id": "a", "prompt": "To be, or not to be", "max_tokens": 6, "temperature": 0}
{"id": "b", "prompt": "class Queue:", "max_tokens": 2, "temperature": 0, "prompt_logprobs": 1}
{"id": "c", "prompt": "My lord,", "max_tokens": 3, "min_tokens": 3, "temperature": 0.8, "top_p": 0.9, "top_k": 40, "seed": 3, "logprobs": 2, "presence_penalty": 0.5}
PROMPTS
run=(run --model "$work/model.h5" --input-file "$work/prompts.jsonl" --max-model-len 64 --kv-cache-memory 16MiB
    --threads-per-rank 1)
tokens() { jq -c '[.id, .token_ids]' "$1/generations.jsonl" | sort; }

"$mixserve" "${run[@]}" --backend cpu --output-dir "$work/cpu" >/dev/null
"$emulated" "${run[@]}" --backend cuda --output-dir "$work/gpu" >/dev/null 2>"$work/log"
grep -q "computing on emulated GPU" "$work/log" || fail "the GPU is not named: $(cat "$work/log")"
[ "$(jq -r .options.backend "$work/gpu/run.json")" = cuda ] || fail "run.json does not say cuda"
diff <(tokens "$work/cpu") <(tokens "$work/gpu") || fail "other tokens on the GPU"
load() { jq -c .expert_load "$1/summary.json"; }
[ "$(load "$work/cpu")" != null ] || fail "no load of the experts"
[ "$(load "$work/cpu")" = "$(load "$work/gpu")" ] || fail "another load of the experts on the GPU: $(load "$work/gpu")"

"$emulated" "${run[@]}" --backend cuda --cuda-graphs off --output-dir "$work/launched" >/dev/null 2>&1
diff <(tokens "$work/gpu") <(tokens "$work/launched") || fail "other tokens without CUDA graphs"

for strategy in tp-ep fused; do
    on_ranks 4 "$emulated" "${run[@]}" --backend cuda --allow-gpu-sharing --ranks-per-node 2 --strategy $strategy \
        --output-dir "$work/$strategy" >/dev/null 2>&1
    diff <(tokens "$work/cpu") <(tokens "$work/$strategy") || fail "other tokens with $strategy on four ranks"
done

# Each with a GPU of its own: over NCCL's border, unless the hosts' memory is asked for.
for strategy in tp-ep fused; do
    MIXSERVE_EMULATED_GPUS=4 on_ranks 4 "$emulated" "${run[@]}" --backend cuda --ranks-per-node 2 --strategy $strategy \
        --output-dir "$work/$strategy-nccl" >/dev/null 2>"$work/log"
    grep -q "ranks exchange over NCCL" "$work/log" || fail "NCCL is not named: $(cat "$work/log")"
    [ "$(jq -r '.options["gpu-transport"]' "$work/$strategy-nccl/run.json")" = nccl ] || fail "run.json does not say nccl"
    diff <(tokens "$work/cpu") <(tokens "$work/$strategy-nccl") || fail "other tokens with $strategy over NCCL"
done
MIXSERVE_EMULATED_GPUS=2 on_ranks 2 "$emulated" "${run[@]}" --backend cuda --gpu-transport host --output-dir "$work/host" \
    >/dev/null 2>"$work/log"
grep -q "through the hosts' memory (--gpu-transport host)" "$work/log" || fail "host is not named: $(cat "$work/log")"
refuses "--gpu-transport nccl: ranks share a GPU" on_ranks 2 "$emulated" "${run[@]}" --backend cuda --allow-gpu-sharing \
    --gpu-transport nccl --output-dir "$work/shared"
refuses "--gpu-transport mpi: not one of" "$mixserve" "${run[@]}" --gpu-transport mpi --output-dir "$work/wrong"
MIXSERVE_EMULATED_GPUS=4 on_ranks 4 "$emulated" bench comm --backend cuda --ranks-per-node 2 --max-bytes 4096 --repetitions 1 \
    --json "$work/comm.json" >"$work/bench" 2>&1 || fail "bench comm: $(cat "$work/bench")"
[ "$(jq '[.results[] | select(.wrong == 0)] | length' "$work/comm.json")" -eq 30 ] || fail "bench comm: $(cat "$work/bench")"
MIXSERVE_EMULATED_GPUS=4 on_ranks 4 "$emulated" bench exchange --backend cuda --ranks-per-node 2 --num-tokens 12 \
    --hidden-size 32 --num-experts 8 --num-experts-per-tok 2 --intermediate-size 16 --repetitions 1 \
    --json "$work/exchange.json" >"$work/bench" 2>&1 || fail "bench exchange: $(cat "$work/bench")"
[ "$(jq '[.results[] | select(.difference < 0.01)] | length' "$work/exchange.json")" -eq 5 ] ||
    fail "bench exchange: $(cat "$work/bench")"

refuses "would share one GPU" on_ranks 2 "$emulated" "${run[@]}" --backend cuda --output-dir "$work/shared"
refuses "--backend gpu: not one of" "$mixserve" "${run[@]}" --backend gpu --output-dir "$work/wrong"
"$mixserve" "${run[@]}" --output-dir "$work/auto" >/dev/null 2>"$work/log"
grep -q "computing on the CPU" "$work/log" || fail "auto does not say what it takes: $(cat "$work/log")"
if ! grep -q "there is a GPU" "$work/log"; then
    refuses "--backend cuda: " "$mixserve" "${run[@]}" --backend cuda --output-dir "$work/none"
fi
"$emulated" bench layer --backend cuda --hidden-size 64 --num-experts 4 --num-experts-per-tok 2 --intermediate-size 32 \
    --num-attention-heads 2 --num-key-value-heads 1 --head-dim 64 --batch-sizes 2 --context 5 --prefill-sizes 9 \
    --repetitions 1 >"$work/bench" 2>&1 || fail "bench layer: $(cat "$work/bench")"
grep -q "emulated GPU" "$work/bench" || fail "bench layer does not name the GPU"
echo passed
