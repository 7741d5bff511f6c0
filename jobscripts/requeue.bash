#!/bin/bash
# Sourced by the job scripts here: runs a step, and sends the job back to the queue when it was stopped with work left.

# run_or_requeue COMMAND...   runs COMMAND (srun or mpirun with mixserve run --resume) and ends this script.
#   Exit code 75: a signal stopped it with work left. The job goes back to the queue, and goes on from its rows when it
#   starts again; not after scancel, which sends SIGTERM to this script too. So it does when a node no longer answers.
#   Any other code is the job's.
#   SIGUSR1 to this script alone (#SBATCH --signal=B:..., scancel --batch) is passed on to COMMAND, which hands it to all ranks.
run_or_requeue() {
    local code=0 step cancelled=no
    trap 'cancelled=yes' TERM
    "$@" &
    step=$!
    trap 'kill -s USR1 "$step"' USR1
    # A signal ends `wait`, not the step.
    while kill -0 "$step" 2>/dev/null; do wait "$step" || true; done
    wait "$step" || code=$?
    if [ "$cancelled" = no ]; then
        if [ "$code" -eq 75 ]; then
            back_to_queue "stopped with work left"
        elif [ "$code" -ne 0 ] && [ "$code" -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ] && ! nodes_answer; then
            back_to_queue "a node has failed"
        fi
    fi
    exit "$code"
}

back_to_queue() {
    echo "$1: back to the queue"
    scontrol requeue "$SLURM_JOB_ID"
}

nodes_answer() {
    timeout 60 srun --overlap --mpi=none --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 true
}
