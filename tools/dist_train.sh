#!/usr/bin/env bash
# Train on several GPUs, or in several processes on the CPU where there is no GPU.
#
#     bash tools/dist_train.sh CONFIG GPUS [OPTIONS OF tools/train.py]
#
# Over several machines set NNODES, NODE_RANK and MASTER_ADDR on each; PORT where 29500 is taken, PYTHON for another
# interpreter than .venv's.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG GPUS [OPTIONS OF tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
shift 2

# shellcheck source=tools/launch.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
run_processes "$GPUS" "$TOOLS/train.py" "$CONFIG" "$@"
