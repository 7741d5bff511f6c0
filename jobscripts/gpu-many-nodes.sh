#!/bin/bash
# Generates on several nodes with four GPUs each: one rank a GPU. Inside a node they share every layer (tensor
# parallelism), across nodes each node holds its share of the experts and serves its own prompts.
# Submit from the project's folder, which all nodes see, after a build with CUDA there. Set the account and the partition
# first.
#   sbatch --nodes=4 jobscripts/gpu-many-nodes.sh
#   MODEL=my.h5 PROMPTS=my.jsonl sbatch --nodes=4 jobscripts/gpu-many-nodes.sh --strategy fused
# 120 s before the time limit the step is stopped; the job then goes back to the queue and goes on from its rows. So it
# does when a node fails.

#SBATCH --job-name=mixserve-gpu-many-nodes
#SBATCH --account=ACCOUNT
#SBATCH --partition=PARTITION
#SBATCH --time=04:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --output=outputs/%x-%j.log
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source jobscripts/requeue.bash

model=${MODEL:-inputs/models/shakespeare-moe.h5}
prompts=${PROMPTS:-inputs/prompts/sample.jsonl}
output=outputs/$SLURM_JOB_NAME-$SLURM_JOB_ID

# The sample model becomes HDF5 once. A model of your own: `build/mixserve convert --hf-dir DIR --output M.h5`, before.
[ -e "$model" ] || build/mixserve convert --hf-dir "${model%.h5}" --output "$model"

# Slurm since 22.05 does not hand --cpus-per-task on to srun by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# All ranks of a node see all its GPUs, so that they reach each other's memory; mixserve gives each rank its own.
# --kill-on-bad-exit: a rank that dies ends the step at once.
run_or_requeue srun --mpi=pmix --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1 \
    build/mixserve run --model "$model" --input-file "$prompts" --output-dir "$output" --resume \
    --backend cuda --threads-per-rank "$SLURM_CPUS_PER_TASK" "$@"
