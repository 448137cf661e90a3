"""The benchmarks that belong to the project, as plain data: what is timed, at which sizes and how."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product

from .subjects import parse_sparsity

__all__ = ['CONFIG_2', 'SUITES', 'Entry', 'SuiteCase', 'narrow', 'suite_cases', 'suite_entries']

UNIFORM = ('0', '0.2', '0.4', '0.6', '0.8')
# SparseViT's released sparsity of its COCO models, configs/sparsevit/*_sparse-cfg2.py here: from its repository
# (mit-han-lab/sparsevit, configs/sparsevit), sites in the order of stages. It has released none for nuScenes and none
# for a Swin of another depth, so that of COCO is timed at the sizes of nuScenes and Cityscapes too.
CONFIG_2 = '0.6,0,0.2,0.4,0.5,0'
SWIN_T = (*UNIFORM, CONFIG_2)
# Published for classification: DynamicViT keeps 0.7 of the tokens at each of three places, dynamic spatial
# sparsification 0.7, 0.5 and 0.3 of the positions of a stage.
VIT_RHO_70 = '0.3,0.51,0.657'
PATHS_RHO_70 = '0.3,0.5,0.7'
# SPViT keeps .7, .39 and .21 of the tokens for its DeiT-S of 2.65 GMACs; those of PiT and Swin are our configs'.
SPVIT_DEIT_S = '0.3,0.61,0.79'
SPVIT_PIT_S = '0.3,0.3,0.6,0.5'
SPVIT_SWIN_T = '0,0.3,0.5,0.5,0.5,0.3'

MASK_RCNN = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
UPERNET = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
MASK2FORMER = 'mmseg::mask2former/mask2former_swin-t_8xb2-90k_cityscapes-512x1024.py'
MASK2FORMER_L = 'mmseg::mask2former/mask2former_swin-l-in22k-384x384-pre_8xb2-90k_cityscapes-512x1024.py'
FCOS3D = 'sparsevit_mm::sparsevit/fcos3d_swin-t-p4-w7_fpn_1x_nus-mono3d.py'
PGD = 'sparsevit_mm::sparsevit/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py'
DEIT_S = 'sparsevit_mm::dynamicvit/upernet_pruned-deit-s16_160k_ade20k-512x512.py'
DINOV2_S = 'sparsevit_mm::dynamicvit/segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336.py'
SPVIT_DEIT = 'sparsevit_mm::spvit/upernet_pruned-deit-s16_160k_ade20k-512x512_sparse-package.py'
SPVIT_PIT = 'sparsevit_mm::spvit/upernet_pruned-pit-s16_160k_ade20k-512x512_sparse-package.py'
SPVIT_SWIN = 'sparsevit_mm::spvit/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672_sparse-package.py'
DYNAMIC_SWIN_T = 'sparsevit_mm::dynamicvit/mask-rcnn_dynamic-swin-t-p4-w7_fpn_ms-crop-3x_coco_sparse-rho70.py'
CONVNEXT_T = 'sparsevit_mm::dynamicvit/upernet_dynamic-convnext-t_160k_ade20k-512x512.py'


@dataclass(frozen=True)
class Entry:
    """A model of a suite with all that it is timed at.

    Args:
        name: Of the model, without an underscore.
        config: As ``tools/benchmark.py`` takes it.
        shapes: Heights and widths in pixels.
        sparsities: Of ours, as on the command line; stock comes before them.
        batches: Images in one forward.
        cuda_batches: Further ones on CUDA.
        modes: How backbones are run.
        cuda_modes: Further ones on CUDA.
        dtypes: Of the arithmetic.
        cuda_dtypes: Further ones on CUDA.
        options: Further words of the command line.
    """

    name: str
    config: str
    shapes: tuple[tuple[int, int], ...]
    sparsities: tuple[str, ...] = UNIFORM
    batches: tuple[int, ...] = (1, 4)
    cuda_batches: tuple[int, ...] = (16,)
    modes: tuple[str, ...] = ('eager', 'compiled')
    cuda_modes: tuple[str, ...] = ('graphs',)
    dtypes: tuple[str, ...] = ('float32', 'bfloat16')
    cuda_dtypes: tuple[str, ...] = ('float16',)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuiteCase:
    """One table of a suite: stock and ours under the same conditions."""

    entry: Entry
    shape: tuple[int, int]
    batch: int
    dtype: str
    mode: str

    @property
    def name(self) -> str:
        """It tells the case from all others of its suite."""
        height, width = self.shape
        return f'{self.entry.name}_{height}x{width}_b{self.batch}_{self.dtype}_{self.mode}'

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words of ``tools/benchmark.py`` that time it."""
        height, width = map(str, self.shape)
        return (
            *(self.entry.config, '--sparsity', *self.entry.sparsities, '--shape', height, width),
            *('--batch', str(self.batch), '--dtype', self.dtype, '--mode', self.mode),
            *('--optional-stock', *self.entry.options),
        )


SUITES: dict[str, tuple[Entry, ...]] = {
    'swin-coco': (
        Entry('swin-t', MASK_RCNN, ((800, 1344), (672, 672)), SWIN_T),
        Entry('dynamic-swin-t', DYNAMIC_SWIN_T, ((800, 1344),), (*UNIFORM, PATHS_RHO_70)),
        Entry('spvit-swin-t', SPVIT_SWIN, ((672, 672),), (*UNIFORM, SPVIT_SWIN_T)),
    ),
    'swin-cityscapes': (
        Entry('swin-t', MASK2FORMER, ((1024, 2048),), SWIN_T, cuda_batches=()),
        Entry('swin-l', MASK2FORMER_L, ((1024, 2048),), batches=(1,), cuda_batches=(4,)),
        # For its memory: the largest map that segmentation sees, in a single size.
        Entry('swin-t', MASK2FORMER, ((2048, 4096),), SWIN_T, batches=(1,), cuda_batches=(), modes=('eager',)),
    ),
    'swin-nuscenes': (
        Entry('swin-t', FCOS3D, ((256, 704),), SWIN_T, batches=(6,), cuda_batches=()),  # six cameras
        Entry('swin-t', FCOS3D, ((900, 1600),), SWIN_T, batches=(1,), cuda_batches=(6,)),
    ),
    'vit': (
        Entry('deit-s', DEIT_S, ((512, 512),), (*UNIFORM, VIT_RHO_70)),
        Entry('dinov2-s14', DINOV2_S, ((512, 512),), (*UNIFORM, VIT_RHO_70)),
        Entry('spvit-deit-s', SPVIT_DEIT, ((512, 512),), (*UNIFORM, SPVIT_DEIT_S)),
        Entry('spvit-pit-s', SPVIT_PIT, ((512, 512),), (*UNIFORM, SPVIT_PIT_S)),
    ),
    'convnext': (Entry('convnext-t', CONVNEXT_T, ((512, 512), (800, 1344)), (*UNIFORM, PATHS_RHO_70)),),
    'whole-model': tuple(
        Entry(
            name,
            config,
            (shape,),
            SWIN_T,
            cuda_batches=(),
            dtypes=dtypes,
            cuda_dtypes=tuple(dtype for dtype in ('bfloat16', 'float16') if dtype not in dtypes),
            options=('--whole-model',),
        )
        for name, config, shape, dtypes in (
            # RoIAlign and deformable convolution of mmcv know no bfloat16 on the CPU.
            ('mask-rcnn', MASK_RCNN, (800, 1344), ('float32',)),
            ('upernet', UPERNET, (512, 512), ('float32', 'bfloat16')),
            ('mask2former', MASK2FORMER, (1024, 2048), ('float32', 'bfloat16')),
            ('fcos3d', FCOS3D, (928, 1600), ('float32',)),
            ('pgd', PGD, (384, 1248), ('float32',)),
        )
    ),
    'training': (
        Entry('swin-t-step', MASK_RCNN, ((512, 512),), modes=('eager',), cuda_modes=(), options=('--train',)),
    ),
}


def suite_entries(name: str) -> tuple[Entry, ...]:
    """What a suite times.

    Raises:
        ValueError: If there is no suite of this name.
    """
    if name not in SUITES:
        raise ValueError(f'there is no suite {name!r}: --suite takes one of {", ".join(SUITES)}.')
    return SUITES[name]


def suite_cases(entries: Iterable[Entry], *, cuda: bool = False) -> list[SuiteCase]:
    """The cases of a suite in their order, with those that are for CUDA devices only if asked for."""
    return [
        SuiteCase(entry, shape, batch, dtype, mode)
        for entry in entries
        for shape, batch, dtype, mode in product(
            entry.shapes,
            entry.batches + entry.cuda_batches * cuda,
            entry.dtypes + entry.cuda_dtypes * cuda,
            entry.modes + entry.cuda_modes * cuda,
        )
    ]


def narrow(
    cases: Sequence[SuiteCase],
    *,
    batches: Sequence[int] | None = None,
    dtypes: Sequence[str] | None = None,
    modes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    sparsities: Sequence[str] | None = None,
) -> list[SuiteCase]:
    """Those cases that have one of the values; None stands for all.

    Args:
        cases: Of a suite.
        batches: Images in one forward.
        dtypes: Of the arithmetic.
        modes: How backbones are run.
        names: Parts of the names of cases, with ``*`` for anything.
        sparsities: Rows of the cases, as :func:`parse_sparsity` takes them.

    Raises:
        ValueError: If a value is that of no case, or none is left.
    """
    for option, wanted, of in (
        ('--batch', batches, lambda case: case.batch),
        ('--dtype', dtypes, lambda case: case.dtype),
        ('--mode', modes, lambda case: case.mode),
    ):
        there = list(dict.fromkeys(of(case) for case in cases))
        for value in wanted or ():
            if value not in there:
                raise ValueError(
                    f'{option} {value} is in no case: there is {", ".join(map(str, there)) or "none left"}.'
                )
        cases = [case for case in cases if wanted is None or of(case) in wanted]
    if names is not None:
        left = [case for case in cases if any(fnmatchcase(case.name, f'*{name}*') for name in names)]
        if not left:
            listed = ', '.join(case.name for case in cases) or 'none left'
            raise ValueError(f'--case {" ".join(names)} is part of the name of no case: there is {listed}.')
        cases = left
    return list(cases) if sparsities is None else _with_rows(cases, sparsities)


def _with_rows(cases: Sequence[SuiteCase], wanted: Sequence[str]) -> list[SuiteCase]:
    """Cases with those of their rows that are wanted, without cases that have none of them.

    Raises:
        ValueError: If no case has such a row.
    """
    there = {parse_sparsity(text): text for case in cases for text in case.entry.sparsities}
    asked = {parse_sparsity(text): text for text in wanted}
    for value, text in asked.items():
        if value not in there:
            raise ValueError(f'--sparsity {text} is in no case: there is {", ".join(map(repr, there.values()))}.')
    entries = {
        case.entry: tuple(text for text in case.entry.sparsities if parse_sparsity(text) in asked) for case in cases
    }
    return [
        replace(case, entry=replace(case.entry, sparsities=entries[case.entry]))
        for case in cases
        if entries[case.entry]
    ]
