"""Reading checkpoints: safely, from several families, and with a clear word where one does not fit."""

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from ..compat import allow_mmengine_checkpoints, load_checkpoint_file

__all__ = [
    'GROWN_PARTS',
    'check_whole',
    'convert_official_swin',
    'fit_swin_tables',
    'is_grown',
    'load_backbone',
    'load_into',
    'load_swin_backbone',
    'read_checkpoint',
    'resize_rows',
    'some',
    'state_of',
]

StateDict = dict[str, Tensor]

# Names of what sparse backbones have beside their stock forms, selectors and fast paths, have one of these in them.
GROWN_PARTS = ('selector.', 'selectors.', '.fast.')


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds, on the CPU.

    Only tensors, plain containers and what mmengine's checkpoints need are accepted: a file that would run code is
    refused before any of it runs.

    Args:
        path: A file, or an address that mmengine can load from.

    Raises:
        ValueError: If the file is missing, truncated, no checkpoint, or holds what is not allowed.
    """
    allow_mmengine_checkpoints()
    try:
        if str(path).endswith('.safetensors'):
            from safetensors.torch import load_file

            content = load_file(path)
        elif '://' not in str(path):
            content = load_checkpoint_file(path)
        elif str(path).startswith(('http://', 'https://')):
            content = torch.hub.load_state_dict_from_url(str(path), map_location='cpu', weights_only=True)
        else:
            content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ValueError(f'checkpoint {path} cannot be read: {error.strerror or error}. Give a .pth file.') from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'checkpoint {path} is refused: it is damaged, or holds objects other than tensors and the records of '
            f'mmengine, which could run code. First line of the reason: {str(error).splitlines()[0]}'
        ) from error
    except ImportError as error:
        raise ValueError(f'checkpoint {path} needs the package safetensors: pip install safetensors.') from error
    except Exception as error:  # each format has errors of its own for a damaged file
        raise ValueError(
            f'checkpoint {path} is damaged or no torch checkpoint ({type(error).__name__}: '
            f'{str(error).splitlines()[0] if str(error) else "no message"}). Copy or download it again.'
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f'checkpoint {path} holds a {type(content).__name__}, not a state dict.')
    return dict(content)


def state_of(checkpoint: Mapping[str, Any], path: str | Path = 'given') -> StateDict:
    """The state dict inside a checkpoint, without the prefix of a data-parallel wrapper.

    Raises:
        ValueError: If there is none.
    """
    for key in ('state_dict', 'model', 'module'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    state = {key.removeprefix('module.'): value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f'checkpoint {path} has no tensors; expected a state dict, alone or under "state_dict".')
    return state


def load_into(model: nn.Module, path: str | Path, *, whole: bool = False, logger: Any = 'current') -> dict[str, Any]:
    """Loads a checkpoint of a whole detector or segmentor.

    A part of the model that the checkpoint lacks keeps its values and is warned of, but a backbone without its
    weights, or tensors of other shapes, mean another architecture.

    Args:
        model: The model to fill.
        path: The checkpoint file.
        whole: Whether every parameter must be there, as for a model that is to be tested.
        logger: Where warnings go, as in mmengine's ``print_log``.

    Returns:
        The checkpoint, with its ``meta``.

    Raises:
        ValueError: If the file cannot be read or belongs to another architecture.
    """
    checkpoint = read_checkpoint(path)
    state = state_of(checkpoint, path)
    other = _of_other_shape(model, {key: value for key, value in state.items() if not key.endswith(_RESIZED)})
    trained = [name for name, _ in model.named_parameters()]
    missing = [name for name in trained if name not in state]
    heart = [name for name in missing if 'backbone.' in name and not is_grown(name)]
    if other or heart or len(missing) == len(trained):
        raise ValueError(
            f'checkpoint {path} belongs to another architecture: {len(other)} tensors have another shape'
            f'{some(other)}, {len(missing)} of {len(trained)} parameters are missing{some(heart or missing)}. '
            f'Give the config that the checkpoint was trained with.'
        )
    if whole:
        check_whole(model, state, path)
    result = model.load_state_dict(state, strict=False)
    if missing:
        print_log(f'{path} lacks {len(missing)} parameters, which keep their values{some(missing)}', logger, 30)
    if result.unexpected_keys:
        print_log(f'{path} has keys with no place in the model{some(result.unexpected_keys)}', logger, 30)
    return checkpoint


def check_whole(model: nn.Module, state: StateDict, path: str | Path) -> None:
    """Checks that a state dict fills a model and not a like backbone only.

    Raises:
        ValueError: If parameters are missing.
    """
    missing = [name for name, _ in model.named_parameters() if name not in state]
    if missing and all(map(is_grown, missing)):
        advice = 'Train the sparse model first (its load_from takes this checkpoint).'
        if not any('.fast.' in name for name in missing):
            advice += (
                ' Or choose a selector that has nothing to learn, such as '
                '--cfg-options model.backbone.selector._delete_=True '
                'model.backbone.selector.type=sparsevit_mm.MagnitudeSelector.'
            )
        raise ValueError(
            f'checkpoint {path} is of a dense model: it lacks {len(missing)} parameters of selectors or fast '
            f'paths{some(missing)}. {advice}'
        )
    if missing:
        raise ValueError(
            f"checkpoint {path} belongs to another model: it lacks {len(missing)} parameters of the config's"
            f'{some(missing)}. Give the config that it was trained with.'
        )


def load_backbone(
    backbone: nn.Module,
    path: str,
    *,
    prefix: str | None,
    convert: Callable[[StateDict], StateDict],
    optional: Callable[[str], bool],
    advice: str,
) -> None:
    """Loads a pretrained backbone from a file of its own or from one of a whole model.

    Selectors and fast paths that the file lacks keep their values; keys without a place are warned of.

    Args:
        backbone: The backbone to fill.
        path: The checkpoint, ``.pth`` or ``.safetensors``.
        prefix: Prefix of the backbone's keys in the file; without it ``backbone.`` is taken where there is such.
        convert: Makes keys and shapes those of the backbone.
        optional: Tells of a parameter whether the file may lack it.
        advice: Names of the arguments that say what size a backbone of this family has.

    Raises:
        ValueError: If the file cannot be read or lacks weights of the backbone.
    """
    state = state_of(read_checkpoint(path), path)
    prefix = (prefix.rstrip('.') + '.') if prefix else 'backbone.'
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    state = convert(state)
    other = _of_other_shape(backbone, state)
    names = [name for name, _ in backbone.named_parameters()]
    missing = [name for name in names if name not in state and not is_grown(name) and not optional(name)]
    if other or missing:
        raise ValueError(
            f'checkpoint {path} is no {type(backbone).__name__} of this size: {len(other)} tensors have another '
            f'shape{some(other)}, {len(missing)} parameters are missing{some(missing)}. Check {advice}, or give '
            f'another checkpoint.'
        )
    result = backbone.load_state_dict(state, strict=False)
    if result.unexpected_keys:
        print_log(f'{path} has keys with no place in the backbone{some(result.unexpected_keys)}', 'current', 30)


def load_swin_backbone(backbone: nn.Module, path: str, *, prefix: str | None = None, convert: bool = False) -> None:
    """Loads a pretrained Swin: a backbone or a whole model of mmdet or mmseg, or an official Swin file.

    Args:
        backbone: The backbone to fill.
        path: The checkpoint.
        prefix: Prefix of the backbone's keys in the file; see :func:`load_backbone`.
        convert: Whether the keys are the official repository's; they are recognised without it too.

    Raises:
        ValueError: If the file cannot be read or lacks weights of the backbone.
    """

    def fit(state: StateDict) -> StateDict:
        if convert or any(key.startswith('layers.') for key in state):
            state = convert_official_swin(state)
        fit_swin_tables(backbone, state, '')
        return state

    # Classifiers have no norms for the outputs; these keep their initial values.
    advice = 'embed_dims, depths, num_heads and use_abs_pos_embed'
    load_backbone(backbone, path, prefix=prefix, convert=fit, optional=_is_output_norm, advice=advice)


def is_grown(name: str) -> bool:
    """Whether a parameter belongs to what a sparse backbone has beside its stock form: selectors and fast paths."""
    return any(part in name for part in GROWN_PARTS)


def convert_official_swin(state: StateDict) -> StateDict:
    """Keys and orders of the official Swin repository as those of mmdet and mmseg.

    Patch merging there concatenates the patch column by column, here channel by channel and row by row, so its
    norm and its reduction are permuted. The classifier is left out.
    """
    converted: StateDict = {}
    for key, value in state.items():
        if key.startswith('head.') or key in ('norm.weight', 'norm.bias') or key.endswith('attn_mask'):
            continue
        if '.downsample.' in key and not key.endswith('.num_batches_tracked'):
            value = _merge_by_channel(value)
        converted[_mm_key(key)] = value
    return converted


def _mm_key(key: str) -> str:
    if key.startswith('patch_embed.'):
        return key.replace('.proj.', '.projection.')
    if not key.startswith('layers.'):
        return key
    key = 'stages.' + key.removeprefix('layers.')
    for theirs, ours in (
        ('.attn.', '.attn.w_msa.'),
        ('.mlp.fc1.', '.ffn.layers.0.0.'),
        ('.mlp.fc2.', '.ffn.layers.1.'),
    ):
        key = key.replace(theirs, ours)
    return key


def _merge_by_channel(value: Tensor) -> Tensor:
    """Last dimension from ``[(x, y), C]`` to ``[C, (y, x)]``, where ``(y, x)`` is the place in a patch of 2 x 2."""
    parts = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return parts.transpose(-1, -2).flatten(-2)


# By hooks of the backbones, when they load.
_RESIZED = ('relative_position_bias_table', 'absolute_pos_embed', 'backbone.pos_embed')


def fit_swin_tables(module: nn.Module, state: StateDict, prefix: str, *_: Any) -> None:
    """Resizes what depends on the window or image size to a module's own sizes, in place.

    A hook for ``register_load_state_dict_pre_hook``, so that every way of loading does it. Tables that cannot be
    resized (other heads, channels) stay, and loading complains of their shape.

    Args:
        module: The module that is about to load.
        state: Its state dict.
        prefix: Prefix of its keys there.
    """
    wanted: Iterable[tuple[str, Tensor]] = [*module.named_parameters(), *module.named_buffers()]
    for name, own in wanted:
        key = prefix + name
        given = state.get(key)
        if given is None:
            continue
        if name.endswith('relative_position_index'):
            state[key] = own.detach().clone()  # follows from the window size
        elif name.endswith('relative_position_bias_table') and given.ndim == 2:
            state[key] = resize_rows(given, int(given.shape[0] ** 0.5), int(own.shape[0] ** 0.5))
        elif name.endswith('absolute_pos_embed'):
            if given.ndim == 4:  # [1, C, H, W] -> [1, L, C]
                given = given.flatten(2).transpose(1, 2)
            grid = getattr(module, 'pretrain_grid', None)
            state[key] = given if grid is None else resize_rows(given[0], int(given.shape[1] ** 0.5), grid)[None]


def resize_rows(rows: Tensor, side: int, target: int | tuple[int, int]) -> Tensor:
    """``[side * side, C]`` as a map, bicubically resized, ``[h * w, C]``; as it is where it is no square."""
    size = (target, target) if isinstance(target, int) else tuple(target)
    if rows.shape[0] == size[0] * size[1] or rows.shape[0] != side * side:
        return rows
    grid = rows.t().reshape(1, -1, side, side).float()
    grid = F.interpolate(grid, size=size, mode='bicubic', align_corners=False)
    return grid[0].flatten(1).t().contiguous().to(rows.dtype)


def _of_other_shape(module: nn.Module, state: StateDict) -> list[str]:
    """Tensors of a state dict that do not have the shape a module wants, with both shapes, for a message."""
    return [
        f'{key} {tuple(state[key].shape)} for {tuple(value.shape)}'
        for key, value in module.state_dict().items()
        if key in state and state[key].shape != value.shape
    ]


def _is_output_norm(name: str) -> bool:
    return name.split('.')[0].removeprefix('norm').isdigit()


def some(names: Iterable[str], count: int = 3) -> str:
    """The first of many names in brackets, for a message; nothing where there is none."""
    names = list(names)
    if not names:
        return ''
    return f' ({", ".join(names[:count])}{", ..." if len(names) > count else ""})'
