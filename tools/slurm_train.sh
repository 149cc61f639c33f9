#!/usr/bin/env bash
# Train under Slurm:
#   [GPUS=8] tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments of tools/train.py]
set -euo pipefail
if (($# < 4)); then
    echo 'usage: tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments]' >&2
    exit 2
fi
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
here=$(dirname "${BASH_SOURCE[0]}")
# SRUN_ARGS holds several arguments, so it is left unquoted.
PYTHONPATH="$here/..:${PYTHONPATH:-}" exec srun --partition="$1" --job-name="$2" \
    --gres="gpu:$gpus_per_node" --ntasks="$gpus" --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/train.py" "$3" --work-dir "$4" --launcher slurm "${@:5}"
