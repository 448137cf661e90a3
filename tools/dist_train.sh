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

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$TOOLS")
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$ROOT/.venv/bin/python" ]; then PYTHON=$ROOT/.venv/bin/python; fi
fi

export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "$@"
