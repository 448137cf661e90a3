"""Several processes, on machines without CUDA too."""

import logging
import os
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

__all__ = ['prepare_launch']


def prepare_launch(cfg: Config) -> None:
    """Make a distributed run work on the CPU, where mmengine asks for a CUDA device all the same.

    The processes are joined by gloo, the model is wrapped without device ids, and SyncBN, which torch has for
    GPUs only, becomes BN. On CUDA, and without a launcher, nothing changes.

    Raises:
        ValueError: If the launcher cannot be used without CUDA, or did not start this process.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise ValueError(
            '--launcher pytorch is for processes that torchrun starts: use tools/dist_train.sh or dist_test.sh, or '
            'leave the launcher out to run in one process.'
        )
    from mmengine.device import get_device

    if get_device() != 'cpu':
        return
    if launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs; without them use tools/dist_train.sh or dist_test.sh.')
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = dict(cfg.get('model_wrapper_cfg') or {})
    wrapper.setdefault('type', 'MMDistributedDataParallel')
    wrapper.setdefault('broadcast_buffers', False)
    wrapper.setdefault('find_unused_parameters', cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if _replace_sync_bn(cfg.model):
        print_log('SyncBN needs GPUs: BN takes its place, with statistics a process.', 'current', logging.WARNING)


def _replace_sync_bn(node: Any) -> int:
    """Make every SyncBN below a node a BN, in place; returns how many there were."""
    if isinstance(node, list | tuple):
        return sum(map(_replace_sync_bn, node))
    if not isinstance(node, dict):
        return 0
    count = sum(map(_replace_sync_bn, node.values()))
    if node.get('type') in ('SyncBN', 'MMSyncBN'):
        node['type'] = 'BN'
        count += 1
    return count
