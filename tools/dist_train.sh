#!/usr/bin/env bash
# Train on several processes of this machine, or of several machines:
#   tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
set -euo pipefail
if (($# < 2)); then
    echo 'usage: tools/dist_train.sh CONFIG PROCESSES [arguments of train.py]' >&2
    exit 2
fi
here=$(dirname "${BASH_SOURCE[0]}")
PYTHONPATH="$here/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$2" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$here/train.py" "$1" --launcher pytorch "${@:3}"
