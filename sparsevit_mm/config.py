"""Configs, stock or ours: read, made sparse, freed of downloads."""

import copy
import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from .registry import SCOPE, type_name

__all__ = ['drop_pretrained', 'import_in_config', 'load_config', 'sparsify_config']

# Stock backbone types by package -> their sparse forms here, the default one first.
SWIN_FORMS = ('SparseSwin', 'DynamicSwin')
SPARSE_FORMS = {
    'mmdet.SwinTransformer': SWIN_FORMS,
    'mmseg.SwinTransformer': SWIN_FORMS,
    'mmdet3d.SwinTransformer': SWIN_FORMS,
    'mmseg.VisionTransformer': ('PrunedViT',),
    'mmpretrain.ConvNeXt': ('DynamicConvNeXt',),
}
# What a stock config imports for the sake of its backbone alone.
BACKBONE_IMPORTS = {'mmpretrain': 'mmpretrain.models'}

# The keys under which models of the three packages hold a backbone that sees images.
BACKBONE_KEYS = ('backbone', 'img_backbone')


def load_config(path: str | Path, cfg_options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file of ours or of mmdet, mmseg or mmdet3d.

    Args:
        path: A config file, or ``mmdet::...`` for one of an installed package. Its ``_base_`` may name
            ``sparsevit_mm::...`` beside the packages that mmengine knows.
        cfg_options: Dotted keys and the values that replace what the file says.

    Raises:
        ValueError: If there is no such file, if it or one of its bases cannot be read, or if an option does
            not fit.
    """
    _make_packages_known()
    try:
        with warnings.catch_warnings():  # mmengine asks pkg_resources, which warns of its own age each time
            warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
            file = Config._get_cfg_path(str(path), '')[0] if '::' in str(path) else str(path)
            if not Path(file).is_file():
                raise FileNotFoundError('there is no such file. Give the path of a .py, .yml or .json config')
            cfg = Config.fromfile(file, import_custom_modules=False)
            _import_modules(cfg)
    except Exception as error:  # whatever the Python code in a config raises
        kind = '' if isinstance(error, OSError | ModuleNotFoundError | ValueError) else f'{type(error).__name__}: '
        raise ValueError(f'config {str(path)!r} cannot be read: {kind}{error}') from error
    if cfg_options:
        try:
            cfg.merge_from_dict(dict(cfg_options))
        except (AssertionError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f'--cfg-options {dict(cfg_options)} do not fit config {str(path)!r}: {error}') from error
    return cfg


def _import_modules(cfg: Config) -> None:
    """Does what ``custom_imports`` asks for, but for what only a stock backbone needs that will be replaced."""
    wanted = cfg.get('custom_imports') or {}
    imports = wanted.get('imports') or []
    for module in [imports] if isinstance(imports, str) else imports:
        try:
            importlib.import_module(module)
        except ImportError:
            if module not in BACKBONE_IMPORTS.values() and not wanted.get('allow_failed_imports', False):
                raise


def _make_packages_known() -> None:
    """Teach mmengine where ``sparsevit_mm::`` leads, and ``mmseg::`` where another distribution brings mmseg.

    mmengine maps the name before ``::`` to the name of a distribution and takes the folder that
    pkg_resources gives for it, which is wrong for an editable install. A dotted module name is no
    distribution, so that it falls back on the import system, which always knows.
    """
    from mmengine.config import utils

    utils.MODULE2PACKAGE[SCOPE] = f'{SCOPE}.version'
    try:
        distribution(utils.MODULE2PACKAGE['mmseg'])
    except PackageNotFoundError:
        utils.MODULE2PACKAGE['mmseg'] = 'mmseg'


def sparsify_config(
    cfg: Config, sparsity: float | Sequence[float] = 0.0, *, backbone_type: str | None = None, **options: Any
) -> Config:
    """A copy of a config whose backbone is sparse.

    Args:
        cfg: A config with a backbone that has a sparse form, or with one of this package, which then gets the
            sparsity only.
        sparsity: Fraction of units that are not computed, one for all sites or one a site.
        backbone_type: The sparse form where there are several, such as ``'DynamicSwin'`` for a Swin.
        **options: Further arguments of the sparse backbone, such as ``selector``.

    Raises:
        ValueError: If the model has no backbone that can be made sparse, or more than one, or the form does not fit.
    """
    cfg = copy.deepcopy(cfg)
    found = list(_backbones(cfg.get('model') or {}, 'model', cfg.get('default_scope')))
    fitting = [(backbone, forms) for _, backbone, forms in found if forms]
    if len(fitting) != 1:
        known = ', '.join([*SPARSE_FORMS, f'{SCOPE}.*'])
        listed = ', '.join(f'{path}.type={backbone.get("type")!r}' for path, backbone, _ in found) or 'no backbone'
        raise ValueError(
            f'the config has {listed}, but exactly one backbone that can be made sparse is needed. Known are {known}.'
        )
    backbone, forms = fitting[0]
    chosen = (backbone_type or forms[0]).removeprefix(f'{SCOPE}.')
    if chosen not in forms:
        raise ValueError(
            f'backbone_type {backbone_type!r} is no sparse form of {backbone["type"]}; there is {", ".join(forms)}.'
        )
    _drop_imports(cfg, backbone)
    backbone['type'] = f'{SCOPE}.{chosen}'
    backbone['sparsity'] = float(sparsity) if isinstance(sparsity, int | float) else tuple(map(float, sparsity))
    backbone.update(options)
    import_in_config(cfg, SCOPE)
    return cfg


def import_in_config(cfg: Config, module: str) -> None:
    """Add a module to the ``custom_imports`` of a config and import it."""
    present = cfg.get('custom_imports') or {}
    imports = present.get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    if module not in imports:
        imports.append(module)
    cfg.custom_imports = dict(imports=imports, allow_failed_imports=present.get('allow_failed_imports', False))
    importlib.import_module(module)


def _drop_imports(cfg: Config, backbone: Mapping[str, Any]) -> None:
    """Takes a package out of the imports of a config that only its stock backbone needed."""
    module = BACKBONE_IMPORTS.get(str(backbone['type']).partition('.')[0])
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    if module in imports:
        cfg.custom_imports.imports = [name for name in imports if name != module]


def _backbones(node: Any, path: str, scope: str | None) -> Iterator[tuple[str, ConfigDict, tuple[str, ...]]]:
    """Every backbone config below a node: its path, itself, and the sparse forms that it has."""
    if isinstance(node, Mapping):
        scope = node.get('_scope_', scope)
        for key, value in node.items():
            if key in BACKBONE_KEYS and isinstance(value, Mapping) and 'type' in value:
                yield f'{path}.{key}', value, _sparse_forms(value, scope)
            else:
                yield from _backbones(value, f'{path}.{key}', scope)
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _backbones(value, f'{path}[{i}]', scope)


def _sparse_forms(backbone: Mapping[str, Any], scope: str | None) -> tuple[str, ...]:
    kind = backbone['type']
    if isinstance(kind, type):  # a config written with imports instead of strings
        scope, name = kind.__module__.partition('.')[0], kind.__name__
    else:
        prefix, _, name = str(kind).rpartition('.')
        scope = prefix.partition('.')[0] or backbone.get('_scope_', scope)
    if scope == SCOPE:
        return (name,)
    if scope is None:
        return next((forms for known, forms in SPARSE_FORMS.items() if known.endswith(f'.{name}')), ())
    return SPARSE_FORMS.get(f'{scope}.{name}', ())


def drop_pretrained(cfg: Config) -> None:
    """Take every pretrained file out of the model, in place: a named checkpoint brings all weights.

    Without this a stock config downloads its ImageNet weights only to have them overwritten.
    """
    _drop_pretrained(cfg.get('model'))


def _drop_pretrained(node: Any) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == 'pretrained' and isinstance(value, str):
                node[key] = None
            elif key == 'init_cfg':
                node[key] = _without_pretrained(value)
            else:
                _drop_pretrained(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _drop_pretrained(value)


def _without_pretrained(init_cfg: Any) -> Any:
    def pretrained(entry: Any) -> bool:
        return type_name(entry) in ('Pretrained', 'PretrainedInit')

    if isinstance(init_cfg, list | tuple):
        return [entry for entry in init_cfg if not pretrained(entry)] or None
    return None if pretrained(init_cfg) else init_cfg
