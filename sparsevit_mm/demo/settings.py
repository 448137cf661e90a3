"""The settings that a user chooses from, and how sliders keep to the rule of a group."""

from collections.abc import Mapping, Sequence

from ..config import BACKBONE_KEYS, load_config
from ..cost.subjects import parse_sparsity
from ..sparsity import SparsityLayout

__all__ = ['LARGEST', 'normalize_settings', 'parse_settings', 'settle']

LARGEST = 0.95  # where sliders end: 1 is not allowed, and beyond this hardly anything is computed

Sparsity = float | tuple[float, ...]


def parse_settings(texts: Sequence[str]) -> dict[str, Sparsity]:
    """Named settings from the command line, in their order.

    Args:
        texts: ``NAME=.6,0,.2,.4,.5,0``, ``NAME=0.5`` for all sites, or ``NAME=best_config.py`` for the sparsity in a
            config that a search has written.

    Raises:
        ValueError: If a text has no name or no sparsity, or a name comes twice.
    """
    settings: dict[str, Sparsity] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition('='))
        if not name or not value:
            raise ValueError(
                f'--settings takes NAME=SPARSITY, such as found=.6,0,.2,.4,.5,0 or found=best_config.py, got {text!r}.'
            )
        if name in settings:
            raise ValueError(f'--settings {name} is given twice: choose another name for one of them.')
        settings[name] = _of_config(value) if value.endswith('.py') else parse_sparsity(value)
    return settings


def _of_config(path: str) -> Sparsity:
    model = load_config(path).get('model') or {}
    values = [model[key]['sparsity'] for key in BACKBONE_KEYS if 'sparsity' in (model.get(key) or {})]
    if not values:
        raise ValueError(
            f'--settings: config {path!r} has no model.backbone.sparsity, as best_config.py of a search has.'
        )
    return values[0] if isinstance(values[0], int | float) else tuple(values[0])


def normalize_settings(
    settings: Mapping[str, float | Sequence[float]], layout: SparsityLayout
) -> dict[str, tuple[float, ...]]:
    """One float a site for every setting.

    Raises:
        ValueError: If one does not fit the sites; the message says which.
    """
    fitting = {}
    for name, sparsity in settings.items():
        try:
            fitting[name] = layout.normalize(sparsity)
        except ValueError as error:
            raise ValueError(f'--settings {name}: {error}') from error
    return fitting


def settle(layout: SparsityLayout, values: Sequence[float], moved: int) -> tuple[float, ...]:
    """The sparsity after one slider was moved: the others of its group follow as far as the rule needs it.

    Within a group sparsity never decreases with depth, so earlier sites come down to the moved one and later sites
    go up to it. Other groups stay.

    Args:
        layout: The sites.
        values: One float a site, the moved one at its new value.
        moved: Index of that site.
    """
    settled = [min(max(float(value), 0.0), LARGEST) for value in values]
    span = next(span for span in layout.spans if span.start <= moved < span.stop)
    for i in range(span.start, span.stop):
        settled[i] = min(settled[i], settled[moved]) if i < moved else max(settled[i], settled[moved])
    return tuple(settled)
