#!/bin/bash
# Generates on one CPU node: four ranks share every layer (tensor parallelism over shared memory).
# Submit from the project's folder, after `make build` there:  sbatch jobscripts/one-node.sh
# Set the account and the partition below; for your own model and prompts change `model` and `prompts`.

#SBATCH --job-name=mixserve-one-node
#SBATCH --account=ACCOUNT
#SBATCH --partition=PARTITION
#SBATCH --time=01:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --output=outputs/%x-%j.log

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

model=inputs/models/shakespeare-moe.h5
prompts=inputs/prompts/sample.jsonl
output=outputs/$SLURM_JOB_NAME-$SLURM_JOB_ID

# The sample model becomes HDF5 once. A model of your own: `build/mixserve convert --hf-dir DIR --output M.h5`, before.
[ -e "$model" ] || build/mixserve convert --hf-dir "${model%.h5}" --output "$model"

# Slurm since 22.05 does not hand --cpus-per-task on to srun by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

srun --mpi=pmix --cpu-bind=cores \
    build/mixserve run --model "$model" --input-file "$prompts" --output-dir "$output" \
    --threads-per-rank "$SLURM_CPUS_PER_TASK"
