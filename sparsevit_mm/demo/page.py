"""The page: Gradio's components wired to a demo. Nothing is decided here that a test without a browser should see."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .session import Demo, DemoResult
from .settings import LARGEST, settle
from .style import CSS, HEAD, THEME_FONTS, keep_to_itself
from .words import adaptive_words, costs, introduction, moved_along, notes, problem, site_legend, slider_words

# Before Gradio is imported: nothing is to be sent or looked up anywhere.
os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_OFFLINE='1', HF_HUB_DISABLE_TELEMETRY='1')

import gradio as gr

__all__ = ['Wishes', 'build_page', 'serve', 'uploaded_file']

TITLE = 'What a sparse backbone computes'
TABS_REMEMBERED = 1000
STEP = 0.01
FIT_A_SCREEN = 6  # sliders
EMPTY = '<p id="agreement">Choose one of the examples, or drop a picture of your own.</p>'
WHERE = '<p class="faint">The more blocks computed a place, the brighter. Dark places cost next to nothing.</p>'
SOON, NOT_ASKED, STOPPED = 'measuring …', 'not measured', 'measuring was stopped'


class Wishes:
    """What each browser tab asked for last, so that work that it no longer waits for can end early."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def new(self, tab: str | None) -> None:
        """A tab asks for something else."""
        self._numbers[tab or ''] = self._numbers.pop(tab or '', 0) + 1
        if len(self._numbers) > TABS_REMEMBERED:
            self._numbers.popitem(last=False)

    def outdated(self, tab: str | None) -> Callable[[], bool]:
        """Tells later on whether the tab has asked for something else since now."""
        now = self._numbers.get(tab or '', 0)
        return lambda: self._numbers.get(tab or '', 0) != now


class _Answers:
    """What the page calls: from values of components to values of components."""

    def __init__(self, demo: Demo, uploads: Path) -> None:
        self.demo, self.uploads, self.wishes = demo, uploads, Wishes()

    def wish(self, request: gr.Request) -> None:
        """Another picture or another switch."""
        self.wishes.new(request.session_hash)

    def move(self, moved: int, request: gr.Request, *values: float) -> list[Any]:
        """The sliders after one was moved, and which of them followed."""
        self.wishes.new(request.session_hash)
        settled = settle(self.demo.layout, values, moved)
        changed = [gr.skip() if old == new else new for old, new in zip(values, settled)]
        return [*changed, moved_along(self.demo, moved, values, settled)]

    def choose(self, sparsity: Sequence[float], request: gr.Request) -> list[Any]:
        """The sliders at a named setting."""
        self.wishes.new(request.session_hash)
        return [*sparsity, '']

    def move_all(self, value: float, request: gr.Request) -> list[Any]:
        """The sliders at one value."""
        return self.choose([min(max(value, 0.0), LARGEST)] * len(self.demo.layout.sites), request)

    def switch(self, one_for_all: bool) -> list[Any]:
        """Which sliders are there: the one for all sites, or one a site."""
        return [gr.update(visible=one_for_all)] + [gr.update(visible=not one_for_all)] * len(self.demo.layout.sites)

    def show(
        self, upload: Mapping[str, Any] | None, measure: bool, request: gr.Request, *values: float
    ) -> Iterator[list[Any]]:
        """Costs, dense, sparse, overlay, sites and notes: first what is quick, then the sites, then the latencies."""
        outdated = self.wishes.outdated(request.session_hash)
        sparsity = self._allowed(values)
        try:
            image = uploaded_file(upload, self.uploads)
            if image is None:
                yield [EMPTY, None, None, None, None, '']
                return
            result = self.demo.render(image, sparsity)
            yield self._first(result, SOON if measure else NOT_ASKED)
            if not outdated():
                yield [gr.skip()] * 4 + [self._sites(result), gr.skip()]
            if measure and not outdated():
                latency = self.demo.measure(image, sparsity, outdated)
                yield [costs(result, latency, STOPPED)] + [gr.skip()] * 5
        except ValueError as error:
            yield [problem(str(error)), None, None, None, None, '']

    def _sites(self, result: DemoResult) -> list[tuple[Any, str]]:
        return [(picture, site_map.title) for picture, site_map in zip(result.draw_sites(), result.maps)]

    def _first(self, result: DemoResult, state: str) -> list[Any]:
        pictures = [result.dense, result.sparse, result.overlay]
        return [costs(result, state=state), *pictures, gr.skip(), notes(result)]

    def _allowed(self, values: Sequence[float]) -> tuple[float, ...]:
        """Sliders may be caught between two moves."""
        for span in self.demo.layout.spans:
            values = settle(self.demo.layout, values, span.start)
        return tuple(values)


def build_page(demo: Demo, examples: Sequence[Path], names: str, uploads: Path, measure: bool = True) -> gr.Blocks:
    """The page of a demo.

    Args:
        demo: What it shows.
        examples: Pictures to choose from; the first one is there at the beginning.
        names: Of config and checkpoint, for the head of the page.
        uploads: Folder for uploads and for the pictures that are shown; those of an hour ago are deleted.
        measure: Whether latencies are measured after every change, until a user says otherwise.
    """
    os.environ['GRADIO_TEMP_DIR'] = str(uploads)
    answers = _Answers(demo, uploads)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(f'<h1>{TITLE}</h1>{introduction(demo, names)}')
        with gr.Row():
            with gr.Column(scale=2, min_width=320, elem_classes='sticky' if len(demo.start) <= FIT_A_SCREEN else None):
                image = _picture_input(examples)
                sliders, changes = _controls(demo, answers)
                timed = gr.Checkbox(value=measure, label='measure the latency after every change', container=False)
            with gr.Column(scale=4, min_width=320):
                shown = _results(demo)
        inputs = [image, timed, *sliders]
        page.load(answers.show, inputs, shown, **_MODEL)
        for change in (image.change, timed.input):
            change(answers.wish, None, None, **_QUICK).then(answers.show, inputs, shown, **_MODEL)
        for change in changes:
            change.then(answers.show, inputs, shown, **_MODEL)
    return page


# Runs of the model wait for each other, and of those that one control asks for, only the last one is made.
_MODEL = dict(
    preprocess=False, concurrency_id='model', concurrency_limit=1, trigger_mode='always_last', api_visibility='private'
)
_QUICK = dict(queue=False, show_progress='hidden', api_visibility='private')


def _picture_input(examples: Sequence[Path]) -> gr.Image:
    image = gr.Image(
        value=str(examples[0]),
        type='filepath',
        image_mode=None,
        sources=['upload', 'clipboard'],
        label='Picture',
        height=220,
        elem_id='picture',
    )
    rows = [[str(path)] for path in examples]
    gr.Examples(rows, [image], label='Examples', examples_per_page=8, cache_examples=False)
    return image


def uploaded_file(upload: Mapping[str, Any] | None, folder: Path) -> Path | None:
    """The file of a picture, as the browser names it.

    It stands in the place of Gradio's own preprocessing, which opens the file and fails with words for programmers.

    Args:
        upload: What the browser sends.
        folder: Where Gradio puts uploads and examples; other files of this machine are not to be shown.

    Raises:
        ValueError: If it is another file.
    """
    if upload is None:
        return None
    path = Path(str(upload.get('path'))).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f'{path.name} was not uploaded here.')
    return path


def _controls(demo: Demo, answers: _Answers) -> tuple[list[gr.Slider], list[Any]]:
    """Sliders, switch and buttons; returns the sliders and the events after which there is something new to show."""
    layout, changes = demo.layout, []
    if demo.adaptive:
        gr.HTML(adaptive_words(demo))
    else:
        gr.HTML(f'<h2>How much is left out</h2>{slider_words(demo)}')
    with gr.Group():
        one = gr.Checkbox(label='one slider for all sites', interactive=not demo.adaptive, elem_id='one-for-all')
        every = _slider('all sites', max(demo.start), 'all', visible=False)
        sliders = [
            _slider(site, value, site.replace('.', '-'), interactive=not demo.adaptive)
            for site, value in zip(layout.sites, demo.start)
        ]
    followed = gr.HTML(elem_id='followed')
    outputs = [*sliders, followed]
    one.input(answers.switch, one, [every, *sliders], **_QUICK)
    changes.append(every.release(answers.move_all, every, outputs, **_QUICK))
    for i, slider in enumerate(sliders):
        changes.append(slider.release(_bound(answers.move, i), sliders, outputs, **_QUICK))
    if not demo.adaptive:
        with gr.Row(elem_classes='settings'):
            for name, sparsity in {'dense': demo.dense, 'start': demo.start, **demo.settings}.items():
                button = gr.Button(name, size='sm', min_width=80)
                changes.append(button.click(_bound(answers.choose, sparsity), None, outputs, **_QUICK))
    return sliders, changes


def _slider(label: str, value: float, name: str, **options: Any) -> gr.Slider:
    return gr.Slider(0, LARGEST, value, step=STEP, label=label, elem_id=f'site-{name}', buttons=[], **options)


def _bound(answer: Callable[..., Any], first: Any) -> Callable[..., Any]:
    """An answer with its first argument given; Gradio reads the annotations, which ``partial`` hides."""

    def call(request: gr.Request, *values: Any) -> Any:
        return answer(first, request, *values)

    return call


def _results(demo: Demo) -> list[Any]:
    figures = gr.HTML(EMPTY, elem_id='costs')
    said = gr.HTML(elem_id='notes')
    with gr.Row():
        dense, sparse = (
            _picture_output(f'<h2>Prediction, {kind}</h2>', f'{name}-picture')
            for kind, name in (('dense', 'dense'), ('at this setting', 'sparse'))
        )
    overlay = _picture_output(f'<h2>Where it computes</h2>{WHERE}', 'overlay')
    gr.HTML(f'<h2>Site by site</h2>{site_legend(demo)}')
    sites = gr.Gallery(
        show_label=False,
        columns=2,
        height='auto',
        object_fit='contain',
        format='jpeg',
        elem_id='sites',
        preview=False,
        buttons=['fullscreen'],
    )
    return [figures, dense, sparse, overlay, sites, said]


def _picture_output(heading: str, name: str) -> gr.Image:
    with gr.Column(min_width=150):
        gr.HTML(heading)
        return gr.Image(
            show_label=False, interactive=False, format='jpeg', elem_id=name, buttons=['download', 'fullscreen']
        )


def serve(page: gr.Blocks, host: str, port: int | None, allowed: Sequence[Path]) -> str:
    """Serves a page until the process ends or the page is closed; returns where.

    Args:
        page: What to serve.
        host: Address to listen on.
        port: None for the first free one from 7860.
        allowed: Folders that its pictures are in.

    Raises:
        ValueError: If the port is in use or not allowed, or the address is not one of this machine.
    """
    _reach_directly(host)
    page.queue(api_open=False, max_size=64)
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            allowed_paths=[str(folder) for folder in allowed],
            footer_links=[],
            css=CSS,
            head=HEAD,
            theme=gr.themes.Default(font=THEME_FONTS, font_mono=['ui-monospace', 'monospace']),
            app_kwargs=dict(middleware=keep_to_itself(), docs_url=None, redoc_url=None),
        )
    except (OSError, OverflowError) as error:
        where = f'{host}, port {port or "7860 to 7959"}'
        raise ValueError(f'{where} cannot be listened on: in use, or not allowed. Choose another --port.') from error
    return url


def _reach_directly(host: str) -> None:
    """Gradio asks its own server whether it is there, which a proxy would not know."""
    for variable in ('NO_PROXY', 'no_proxy'):
        known = [name for name in os.environ.get(variable, '').split(',') if name]
        os.environ[variable] = ','.join(dict.fromkeys([*known, '127.0.0.1', 'localhost', host]))
