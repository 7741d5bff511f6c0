#!/bin/bash
# Generates with an array of jobs, each with a share of the prompts on a node of its own. Submit from the project's folder,
# after `make build` there; set the account and the partition first. A second job joins the outputs:
#   id=$(sbatch --parsable --array=0-7 jobscripts/array.sh)
#   sbatch --dependency=afterok:$id jobscripts/merge.sh outputs/mixserve-array-$id
# 120 s before its time limit a task is stopped; it then goes back to the queue and goes on from its rows.

#SBATCH --job-name=mixserve-array
#SBATCH --account=ACCOUNT
#SBATCH --partition=PARTITION
#SBATCH --array=0-3
#SBATCH --time=04:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --output=outputs/%x-%A-%a.log
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source jobscripts/requeue.bash

model=${MODEL:-inputs/models/shakespeare-moe.h5}
prompts=${PROMPTS:-inputs/prompts/sample.jsonl}
output=outputs/$SLURM_JOB_NAME-$SLURM_ARRAY_JOB_ID/$SLURM_ARRAY_TASK_ID

# The first task makes the sample model HDF5. A model of your own: `build/mixserve convert --hf-dir DIR --output M.h5`, before.
# shellcheck disable=SC2016  # expanded by the inner shell
flock "$model.lock" bash -c '[ -e "$1" ] || build/mixserve convert --hf-dir "${1%.h5}" --output "$1"' convert "$model"

# Slurm since 22.05 does not hand --cpus-per-task on to srun by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# --kill-on-bad-exit: a rank that dies ends the step at once.
run_or_requeue srun --mpi=pmix --cpu-bind=cores --kill-on-bad-exit=1 \
    build/mixserve run --model "$model" --input-file "$prompts" --output-dir "$output" --resume --shard auto \
    --threads-per-rank "$SLURM_CPUS_PER_TASK" "$@"
