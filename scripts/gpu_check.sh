#!/usr/bin/env bash
# Check and time mmdyn on a machine with a GPU; see docs/gpu_check.md.
#     scripts/gpu_check.sh --out DIR [--minutes 8] [--dry]
# PYTHON is an interpreter with torch, GPU_DATA a folder of carried files, COMMIT the
# hash of the code where there is no git.
set -euo pipefail
export GPU_CHECK_STARTED=${EPOCHREALTIME/,/.} GPU_DATA=${GPU_DATA:-/nonexistent}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GPU_CHECK_SCRATCH=$scratch
export PYTHONPATH=$root:$root/scripts${PYTHONPATH:+:$PYTHONPATH}:$scratch/site

missing=()
for wheel in "$GPU_DATA"/whl/*.whl; do
    name=$(basename "$wheel")
    find="from importlib.metadata import version; version('${name%%-*}')"
    [[ ! -f $wheel ]] || "$python" -c "$find" 2>/dev/null || missing+=("$wheel")
done
((${#missing[@]} == 0)) || "$python" -m pip install -q --no-index --no-deps --no-compile \
    --no-cache-dir --disable-pip-version-check --target "$scratch/site" "${missing[@]}"

commit=$(git -C "$root" rev-parse HEAD 2>/dev/null || cat "$GPU_DATA/commit" 2>/dev/null ||
    echo "${COMMIT:-unknown}")
driver=$(nvidia-smi --id=0 --query-gpu=driver_version --format=csv,noheader 2>/dev/null || echo none)
export GPU_CHECK_COMMIT=$commit GPU_CHECK_DRIVER=$driver
# Triton decides when it is imported whether it compiles or interprets.
[[ " $* " != *' --dry '* ]] || export TRITON_INTERPRET=1
"$python" -W ignore -m gpu_check "$@"
