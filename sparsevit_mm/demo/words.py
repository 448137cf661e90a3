"""The figures of a page as HTML."""

from collections.abc import Iterable
from html import escape

from ..cost import LatencyRecord
from .latency import DemoLatency
from .session import Demo, DemoResult

__all__ = ['adaptive_words', 'costs', 'introduction', 'moved_along', 'notes', 'problem', 'site_legend', 'slider_words']

RANDOM = (
    'Random weights: no checkpoint was given, so predictions mean nothing and the {} are not those that a trained '
    'model would choose. MACs and latencies are right.'
)


def introduction(demo: Demo, names: str) -> str:
    """What the page is about, for one who has never heard of it.

    Args:
        demo: What is shown.
        names: Of config and checkpoint.
    """
    backbone, sites = type(demo.backbone).__name__, len(demo.layout.sites)
    lines = [
        f'<p>The backbone of this {demo.task.name}, a <b>{backbone}</b>, looks at a picture in {demo.unit}. At {sites} '
        f'place{"s" * (sites != 1)} in the network, its <i>sites</i>, it can leave out those that matter least. Choose '
        f'how many, and see where it still computes, what the model then predicts, and what that saves on this '
        f'machine.</p>',
        f'<p class="faint">{escape(names)}</p>',
    ]
    if not demo.trained:
        lines.append(f'<p class="warning" id="random-weights">{RANDOM.format(demo.unit)}</p>')
    return '\n'.join(lines)


def slider_words(demo: Demo) -> str:
    """What the numbers of the sliders mean."""
    return (
        f'<p class="faint">Fraction of the {demo.unit} that a site does not compute: 0 leaves out nothing, 0.9 nine '
        f'tenths. The first sites see fine detail, the last ones the picture as a whole.</p>'
    )


def site_legend(demo: Demo) -> str:
    """How the pictures of the sites are to be read."""
    return (
        f'<p class="faint">What a site computed keeps its colours. Blue {demo.unit} were computed by some of its '
        f'blocks, dark hatched ones by none. Click a picture to enlarge it.</p>'
    )


def adaptive_words(demo: Demo) -> str:
    """Why there are no sliders."""
    return (
        f'<p class="warning" id="adaptive">This {type(demo.backbone).__name__} has adaptive counts: its selectors were '
        f'trained to decide how much of each picture is computed, and no slider changes it. To choose by hand, start '
        f'with <code>--cfg-options model.backbone.counts=fixed</code>.</p>'
    )


def moved_along(demo: Demo, moved: int, before: Iterable[float], after: Iterable[float]) -> str:
    """Which sliders had to follow one, and why."""
    names = [
        site
        for i, (site, old, new) in enumerate(zip(demo.layout.sites, before, after))
        if i != moved and abs(old - new) > 1e-9
    ]
    if not names:
        return ''
    listed = ' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return (
        f'<p class="faint" id="moved-along"><b>{listed}</b> moved along: within a stage a later site keeps a part of '
        f'what an earlier one kept.</p>'
    )


def notes(result: DemoResult) -> str:
    """What a user should know of the picture."""
    return ''.join(f'<p class="faint">{escape(note)}</p>' for note in result.notes)


def problem(message: str) -> str:
    """Why nothing can be shown."""
    return f'<p class="warning" id="problem">{escape(message)}</p>'


def costs(result: DemoResult, latency: DemoLatency | None = None, state: str = '') -> str:
    """MACs and latencies in a table, dense beside sparse.

    Args:
        result: What was rendered.
        latency: What was measured, None if it was not or is not yet.
        state: Why there is none.
    """
    height, width = result.shape
    saved = 1 - result.macs / result.dense_macs
    rows = [
        ('MACs of the backbone', _macs(result.dense_macs), _macs(result.macs), f'{saved:.0%} saved', 'macs'),
        _row('Backbone', 'backbone', latency and latency.dense_backbone, latency and latency.backbone, state),
        _row('Whole model', 'model', latency and latency.dense_model, latency and latency.model, state),
    ]
    body = ''.join(
        f'<tr><th>{name}</th><td>{dense}</td><td id="{key}">{now}</td><td class="gain" id="{key}-gain">{gain}</td></tr>'
        for name, dense, now, gain, key in rows
    )
    return (
        f'<p id="agreement"><b>{escape(result.agreement)}</b></p>'
        f'<table class="costs"><thead><tr><th></th><th>dense</th><th>this setting</th><th></th></tr></thead>'
        f'<tbody>{body}</tbody></table>'
        f'<p class="faint">Backbone input {width} x {height} pixels. {_how(latency)}</p>'
    )


def _row(name: str, key: str, dense: LatencyRecord | None, now: LatencyRecord | None, state: str) -> tuple[str, ...]:
    if dense is None or now is None:
        return name, escape(state), '', '', key
    apart = dense.q1 > now.q3 or now.q1 > dense.q3
    ratio = dense.median / now.median
    gain = 'no difference beyond the spread'
    if apart:
        gain = f'{ratio:.2f}x faster' if ratio >= 1 else f'{1 / ratio:.2f}x slower'
    return name, _milliseconds(dense), _milliseconds(now), gain, key


def _how(latency: DemoLatency | None) -> str:
    if latency is None:
        return ''
    passes = f'{latency.rounds} pass{"es" * (latency.rounds != 1)}'
    return (
        f'Latency: median of {passes} of each, taken in turn, with the quartiles in brackets; few passes, so read it '
        f'as a hint. {escape(latency.environment.describe())}. Of the whole model: {escape(latency.scope)}.'
    )


def _macs(macs: int) -> str:
    return f'{macs / 1e9:.2f} G' if macs >= 1e9 else f'{macs / 1e6:.0f} M'


def _milliseconds(record: LatencyRecord) -> str:
    digits = 0 if record.median >= 0.1 else 1
    median, q1, q3 = (f'{seconds * 1e3:.{digits}f}' for seconds in (record.median, record.q1, record.q3))
    return f'<span class="number">{median} ms</span> <span class="spread">({q1}–{q3})</span>'
