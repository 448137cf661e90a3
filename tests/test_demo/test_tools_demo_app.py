"""tools/demo_app.py up to the page, without a browser."""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from demo_models import ADAPTIVE, SEGMENTOR, write_config, write_picture
from scripts import load_tool

from sparsevit_mm.cli import run_tool
from sparsevit_mm.demo import example_pictures
from sparsevit_mm.demo.examples import MOST


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_picture(tmp_path / 'a.png')
    return [write_config(tmp_path, SEGMENTOR), 'none', '--images', str(tmp_path)]


def test_gradio_is_asked_for_by_its_extra(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert run_tool(load_tool('demo_app').main, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: gradio') and 'sparsevit_mm[demo]' in error and error.count('\n') == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--images', 'missing'], 'no file or folder missing'),
        (['--sparsity', 'half'], "'half'"),
        (['--settings', '.6'], 'NAME=SPARSITY'),
        (['--settings', 'found=.6,0'], '--settings found'),
        (['--rounds', '0'], 'rounds'),
        (['--cfg-options', 'model.backbone.type=mmseg.ResNetV1c'], 'can be made sparse'),
        (['--device', 'cuda:99'], 'cuda'),
    ],
)
def test_mistakes(options: list[str], message: str, arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip('gradio')
    assert run_tool(load_tool('demo_app').main, [*arguments, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error and error.count('\n') == 1


def test_port_in_use(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip('gradio')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_tool(load_tool('demo_app').main, [*arguments, '--port', str(port)]) == 2
    captured = capsys.readouterr()
    assert f'port {port} cannot be listened on' in captured.err and '--port' in captured.err
    assert 'RANDOM WEIGHTS' in captured.out


def test_examples_of_a_folder_are_spread_over_it(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f'{i:02d}.png').touch()
    found = example_pictures(tmp_path, tmp_path)
    assert len(found) == MOST and found[0].name == '00.png' and found[-1].name > '56.png'


def test_photographs_where_no_folder_is_given(tmp_path: Path) -> None:
    pytest.importorskip('skimage')
    from PIL import Image

    found = example_pictures(None, tmp_path)
    assert len(found) >= 3
    assert all(np.asarray(Image.open(path)).shape[2] == 3 for path in found)


def test_sliders_are_off_with_adaptive_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('gradio')
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # the page sets it
    from sparsevit_mm.demo import load_demo
    from sparsevit_mm.demo.page import build_page

    demo = load_demo(write_config(tmp_path, ADAPTIVE), None)
    page = build_page(demo, [write_picture(tmp_path / 'a.png')], 'config', tmp_path / 'uploads')
    sliders = [block for block in page.blocks.values() if type(block).__name__ == 'Slider']
    assert sliders and not any(slider.interactive for slider in sliders if slider.visible)
    texts = ' '.join(block.value or '' for block in page.blocks.values() if type(block).__name__ == 'HTML')
    assert 'has adaptive counts' in texts and 'counts=fixed' in texts


def test_nothing_is_sent_anywhere() -> None:
    pytest.importorskip('gradio')
    import sparsevit_mm.demo.page  # noqa: F401

    assert os.environ['GRADIO_ANALYTICS_ENABLED'] == 'False' and os.environ['HF_HUB_OFFLINE'] == '1'
