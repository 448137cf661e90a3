"""Sites before blocks that the user names: for backbones whose stages have fast and slow paths."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from ...sparsity import SparsityLayout

__all__ = ['block_sites_of', 'checked_site_blocks', 'layout_of', 'resolve_site_blocks']

SiteBlocks = Sequence[int] | Mapping[int, Sequence[int]] | None


def resolve_site_blocks(depths: Sequence[int], site_blocks: SiteBlocks, site_stage: int) -> tuple[tuple[int, ...], ...]:
    """Blocks of each stage that have a site before them.

    Args:
        depths: Blocks of each stage.
        site_blocks: Blocks of ``site_stage``, or those of several stages by their indices. ``None`` for the published
            ones: three in a row for 6 and 9 blocks, every second for 18, every third for 27.
        site_stage: Index of the stage.

    Raises:
        ValueError: If there is no such stage or block, or blocks repeat or do not ascend.
    """
    if isinstance(site_blocks, Mapping):
        given = {_stage(stage, depths, 'site_blocks'): blocks for stage, blocks in site_blocks.items()}
    else:
        stage = _stage(site_stage, depths, 'site_stage')
        given = {stage: _published(depths[stage], stage) if site_blocks is None else site_blocks}
    sites = tuple(
        checked_site_blocks(given[i], depth, f'stage {i} has {depth}') if i in given else ()
        for i, depth in enumerate(depths)
    )
    if not any(sites):
        raise ValueError(f'site_blocks must name one block at least, got {site_blocks!r}.')
    return sites


def layout_of(sites: Sequence[Sequence[int]]) -> SparsityLayout:
    """Names of the sites, ``stage3.block1`` and so on, one group a stage."""
    names = tuple(f'stage{i}.block{block}' for i, blocks in enumerate(sites, 1) for block in blocks)
    return SparsityLayout(names, tuple(len(blocks) for blocks in sites if blocks))


def block_sites_of(sites: Sequence[Sequence[int]], depths: Sequence[int]) -> tuple[tuple[int | None, ...], ...]:
    """For each block of each stage the index of the site whose decision holds, ``None`` before the first one."""
    result, before = [], 0
    for blocks, depth in zip(sites, depths):
        passed = [sum(block <= i for block in blocks) for i in range(depth)]
        result.append(tuple(before + count - 1 if count else None for count in passed))
        before += len(blocks)
    return tuple(result)


def _stage(value: object, depths: Sequence[int], option: str) -> int:
    if isinstance(value, str) and value.isdigit():
        value = int(value)  # keys that went through a config file
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(depths):
        raise ValueError(
            f'{option} must name stages from 0 to {len(depths) - 1}, since depths={tuple(depths)}; got {value!r}.'
        )
    return value


def _published(depth: int, stage: int) -> tuple[int, ...]:
    step = max(1, depth // 9)
    blocks = tuple(block for block in (step, 2 * step, 3 * step) if block < depth)
    if not blocks:
        raise ValueError(f'site_blocks must be given for stage {stage}, which has {depth} block: try (0,).')
    return blocks


def checked_site_blocks(blocks: object, depth: int, reason: str) -> tuple[int, ...]:
    """Blocks that have a site before them, if they can be that.

    Args:
        blocks: Indices that a user gave.
        depth: Blocks there are.
        reason: Says why, after "since", where an index is too high.

    Raises:
        ValueError: If there is no such block, or blocks repeat or do not ascend.
    """
    if isinstance(blocks, str) or not isinstance(blocks, Sequence):
        raise ValueError(f'site_blocks must be a sequence of blocks, or one for each of several stages: {blocks!r}.')
    blocks = tuple(blocks)
    if any(isinstance(block, bool) or not isinstance(block, int) or not 0 <= block < depth for block in blocks):
        raise ValueError(f'site_blocks must be blocks from 0 to {depth - 1}, since {reason}; got {blocks}.')
    if any(later <= earlier for earlier, later in pairwise(blocks)):
        raise ValueError(f'site_blocks must ascend without repeats, got {blocks}; try {tuple(sorted(set(blocks)))}.')
    return blocks
