#!/usr/bin/env bash
# Test on several processes of this machine, or of several machines:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
set -euo pipefail
if (($# < 3)); then
    echo 'usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of test.py]' >&2
    exit 2
fi
here=$(dirname "${BASH_SOURCE[0]}")
PYTHONPATH="$here/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$3" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$here/test.py" "$1" "$2" --launcher pytorch "${@:4}"
