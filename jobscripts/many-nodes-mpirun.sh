#!/bin/bash
# many-nodes.sh for clusters whose srun does not start MPI programs: by Open MPI's mpirun inside of the job.
# Submit from the project's folder, which all nodes see, after `make build` there. Set the account and the partition first.
#   sbatch --nodes=4 jobscripts/many-nodes-mpirun.sh

#SBATCH --job-name=mixserve-mpirun
#SBATCH --account=ACCOUNT
#SBATCH --partition=PARTITION
#SBATCH --time=04:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --output=outputs/%x-%j.log
#SBATCH --requeue
#SBATCH --open-mode=append
# To this script alone (B:), which passes it on: mpirun hands SIGUSR1 to all ranks and waits for them. SIGTERM is nothing to
# stop a job by: mpirun ends its ranks odls_base_sigkill_timeout (1 s) after it, and exits with code 1.
#SBATCH --signal=B:USR1@120

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source jobscripts/requeue.bash

model=${MODEL:-inputs/models/shakespeare-moe.h5}
prompts=${PROMPTS:-inputs/prompts/sample.jsonl}
output=outputs/$SLURM_JOB_NAME-$SLURM_JOB_ID

# The sample model becomes HDF5 once. A model of your own: `build/mixserve convert --hf-dir DIR --output M.h5`, before.
[ -e "$model" ] || build/mixserve convert --hf-dir "${model%.h5}" --output "$model"

# Its defaults would wait for ever for a node that a cut wire separates from it: a minute without a sign of life is enough.
export OMPI_MCA_oob_tcp_keepalive_time=30 OMPI_MCA_oob_tcp_keepalive_intvl=5 OMPI_MCA_oob_tcp_keepalive_probes=6

run_or_requeue mpirun --map-by "ppr:$SLURM_NTASKS_PER_NODE:node:PE=$SLURM_CPUS_PER_TASK" --bind-to core \
    build/mixserve run --model "$model" --input-file "$prompts" --output-dir "$output" --resume \
    --threads-per-rank "$SLURM_CPUS_PER_TASK" "$@"
