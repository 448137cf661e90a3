#!/usr/bin/env bash
# Test on several GPUs, or in several processes on the CPU where there is no GPU.
#
#     bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS OF tools/test.py]
#
# Over several machines set NNODES, NODE_RANK and MASTER_ADDR on each; PORT where 29500 is taken, PYTHON for another
# interpreter than .venv's.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS OF tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3

# shellcheck source=tools/launch.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
run_processes "$GPUS" "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" "$@"
