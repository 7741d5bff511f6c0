#!/bin/bash
# A scaling study in one job: runs the sample on 1, 2 and 4 of the job's nodes and writes one page with tables and plots.
# Submit from the project's folder, which all nodes see, after `make build` there. Set the account and the partition first.
#   sbatch jobscripts/scaling-study.sh
# What is finished is not run again: submit it again to go on, or with more strategies and batch sizes to add points.

#SBATCH --job-name=mixserve-scaling-study
#SBATCH --account=ACCOUNT
#SBATCH --partition=PARTITION
#SBATCH --time=02:00:00
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --output=outputs/%x-%j.log

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

model=${MODEL:-inputs/models/shakespeare-moe.h5}
prompts=${PROMPTS:-inputs/prompts/sample.jsonl}

# The sample model becomes HDF5 once. A model of your own: `build/mixserve convert --hf-dir DIR --output M.h5`, before.
[ -e "$model" ] || build/mixserve convert --hf-dir "${model%.h5}" --output "$model"

# Slurm since 22.05 does not hand --cpus-per-task on to srun by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

scripts/scaling-study --launcher srun --srun='--mpi=pmix --cpu-bind=cores --kill-on-bad-exit=1' \
    --model "$model" --input-file "$prompts" --nodes 1,2,4 --ranks-per-node "$SLURM_NTASKS_PER_NODE" \
    --strategies fused,tp-ep --output-dir outputs/scaling-study "$@" \
    -- --threads-per-rank "$SLURM_CPUS_PER_TASK"
