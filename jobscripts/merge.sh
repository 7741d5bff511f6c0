#!/bin/bash
# Joins the outputs of an array (see array.sh) and says which prompts miss their row:
#   sbatch --dependency=afterok:ID jobscripts/merge.sh outputs/mixserve-array-ID
# The result is in the folder `merged` there.

#SBATCH --job-name=mixserve-merge
#SBATCH --account=ACCOUNT
#SBATCH --partition=PARTITION
#SBATCH --time=00:30:00
#SBATCH --ntasks=1
#SBATCH --output=outputs/%x-%j.log

set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
folder=${1:?the folder of the array: outputs/mixserve-array-ID}
build/mixserve merge "$folder"/[0-9]* --output-dir "$folder/merged"
