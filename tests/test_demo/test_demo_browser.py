"""The page in a real browser: a pointer and keys move sliders, and what is shown follows."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from demo_models import SEGMENTOR, write_config, write_picture
from scripts import ROOT

pytest.importorskip('gradio')
sync_api = pytest.importorskip('playwright.sync_api')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
if CHROMIUM is None:
    pytest.skip('no Chromium is installed', allow_module_level=True)

pytestmark = pytest.mark.slow
FLAGS = [
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]
PATIENCE = 60_000  # milliseconds; the machine may be busy


@pytest.fixture(scope='module')
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The tool as a user starts it, with a setting of its own."""
    folder = tmp_path_factory.mktemp('browser')
    (folder / 'pictures').mkdir()
    for seed, name in enumerate(('first.png', 'second.png')):
        write_picture(folder / 'pictures' / name, seed=seed)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / 'tools' / 'demo_app.py'), write_config(folder, SEGMENTOR), 'none']
    command += ['--images', str(folder / 'pictures'), '--port', str(port), '--rounds', '3']
    command += ['--settings', 'found=.9,.1,.2,.3,0']
    with open(folder / 'log.txt', 'w') as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try:
        _wait(lambda: _answers(f'http://127.0.0.1:{port}/'), lambda: (folder / 'log.txt').read_text(), server)
        yield f'http://127.0.0.1:{port}/'
    finally:
        server.terminate()
        server.wait(20)


def _answers(url: str) -> bool:
    try:
        return build_opener(ProxyHandler({})).open(url, timeout=5).status == 200
    except OSError:
        return False


def _wait(ready: Callable[[], bool], log: Callable[[], str], server: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not ready():
        assert server.poll() is None and time.monotonic() < end, log()
        time.sleep(0.5)


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page with its first picture shown, by another tab for every test."""
    context = browser.new_context(viewport=dict(width=1280, height=900))
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.finished = []
    page.on('requestfinished', lambda request: page.finished.append(request.url))
    page.goto(address)
    sync_api.expect(page.locator('#macs')).not_to_be_empty(timeout=PATIENCE)
    yield page
    context.close()


def _macs(page: Any) -> float:
    number, unit = page.locator('#macs').inner_text().split()
    return float(number) * {'M': 1, 'G': 1000}[unit]


def _overlay(page: Any) -> str:
    return page.locator('#overlay img').get_attribute('src')


def _until_changed(page: Any, before: str) -> None:
    page.wait_for_function(
        "before => document.querySelector('#macs')?.innerText !== before", arg=before, timeout=PATIENCE
    )


def _number(page: Any, site: str) -> Any:
    return page.locator(f'#site-{site} input[type=number]')


def test_pointer_moves_a_slider(page: Any) -> None:
    """MACs fall, and all three pictures are others but the dense one."""
    before, overlay, macs = page.locator('#macs').inner_text(), _overlay(page), _macs(page)
    dense = page.locator('#dense-picture img').get_attribute('src')
    sparse = page.locator('#sparse-picture img').get_attribute('src')
    slider = page.locator('#site-stage1-pair1 input[type=range]')
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.9, box['y'] + box['height'] / 2, steps=5)
    page.mouse.up()
    _until_changed(page, before)
    assert float(_number(page, 'stage1-pair1').input_value()) > 0.7
    assert _macs(page) < macs
    page.wait_for_function("before => document.querySelector('#overlay img').src !== before", arg=overlay)
    assert page.locator('#sparse-picture img').get_attribute('src') != sparse
    assert page.locator('#dense-picture img').get_attribute('src') == dense


def test_keys_move_a_slider_and_its_group_follows(page: Any) -> None:
    before = page.locator('#macs').inner_text()
    page.locator('#site-stage3-pair1 input[type=range]').focus()
    page.keyboard.press('End')
    sync_api.expect(_number(page, 'stage3-pair2')).to_have_value('0.95')
    sync_api.expect(page.locator('#moved-along')).to_contain_text('stage3.pair2 moved along')
    sync_api.expect(_number(page, 'stage4-pair1')).to_have_value('0.5')
    _until_changed(page, before)
    page.locator('#site-stage3-pair2 input[type=range]').focus()
    page.keyboard.press('Home')
    sync_api.expect(_number(page, 'stage3-pair1')).to_have_value('0')


def test_number_of_a_slider_is_typed(page: Any) -> None:
    before = page.locator('#macs').inner_text()
    _number(page, 'stage2-pair1').fill('0.9')
    page.keyboard.press('Enter')
    _until_changed(page, before)


def test_buttons_set_what_they_say(page: Any) -> None:
    before = page.locator('#macs').inner_text()
    page.get_by_role('button', name='found').click()
    _until_changed(page, before)
    assert [_number(page, site).input_value() for site in ('stage1-pair1', 'stage3-pair2')] == ['0.9', '0.3']
    before = page.locator('#macs').inner_text()
    page.get_by_role('button', name='dense').click()
    _until_changed(page, before)
    sync_api.expect(page.locator('#notes')).to_contain_text('nothing is skipped')
    sync_api.expect(page.locator('#agreement')).to_contain_text('100.0%')


def test_one_slider_for_all(page: Any) -> None:
    before = page.locator('#macs').inner_text()
    page.locator('#one-for-all input').check()
    sync_api.expect(page.locator('#site-stage1-pair1')).to_be_hidden()
    page.locator('#site-all input[type=range]').focus()
    page.keyboard.press('End')
    _until_changed(page, before)
    page.locator('#one-for-all input').uncheck()
    sync_api.expect(_number(page, 'stage4-pair1')).to_have_value('0.95')


def test_latencies_appear_and_nothing_comes_from_elsewhere(page: Any, address: str) -> None:
    sync_api.expect(page.locator('#backbone')).to_contain_text('ms', timeout=PATIENCE)
    assert re.search(r'\d ms\s*\(.+–.+\)', page.locator('#model').inner_text())
    sync_api.expect(page.locator('#costs')).to_contain_text('median of 3 passes')
    sync_api.expect(page.locator('#random-weights')).to_be_visible()
    assert page.locator('#sites img').count() >= 5
    assert page.finished and not [url for url in page.finished if not url.startswith((address, 'data:', 'blob:'))]


def test_examples_and_uploads(page: Any, tmp_path: Path) -> None:
    """A picture of the page, one of a user's own, and a file that is none."""
    dense = page.locator('#dense-picture img').get_attribute('src')
    page.locator('.gallery-item').nth(1).click()
    page.wait_for_function("before => document.querySelector('#dense-picture img')?.src !== before", arg=dense)
    _upload(page, write_picture(tmp_path / 'own.jpg', (3000, 1500), seed=7))
    sync_api.expect(page.locator('#notes')).to_contain_text('was made 2048 x 1024 first', timeout=PATIENCE)
    (tmp_path / 'notes.png').write_text('no picture at all')
    _upload(page, tmp_path / 'notes.png')
    sync_api.expect(page.locator('#problem')).to_contain_text('notes.png cannot be read as an image', timeout=PATIENCE)


def _upload(page: Any, path: Path) -> None:
    page.get_by_role('button', name='Remove Image').click()
    sync_api.expect(page.locator('#agreement')).to_contain_text('drop a picture of your own', timeout=PATIENCE)
    page.locator('#picture input[type=file]').set_input_files(str(path))


def test_two_tabs_have_their_own_sliders(page: Any, browser: Any, address: str) -> None:
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(address)
    sync_api.expect(other.locator('#macs')).not_to_be_empty()
    start = other.locator('#macs').inner_text()
    page.get_by_role('button', name='dense').click()
    other.get_by_role('button', name='found').click()
    _until_changed(page, start)
    _until_changed(other, start)
    assert _macs(other) < _macs(page)
    sync_api.expect(_number(page, 'stage1-pair1')).to_have_value('0')
    other.close()


def test_on_a_phone(browser: Any, address: str) -> None:
    """Nothing is wider than the screen."""
    page = browser.new_page(viewport=dict(width=390, height=844), device_scale_factor=2, is_mobile=True, has_touch=True)
    page.goto(address)
    sync_api.expect(page.locator('#backbone')).to_contain_text('ms', timeout=PATIENCE)
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    page.close()
