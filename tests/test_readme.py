"""What README and docs say runs, exists and links."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
OF_THE_SEARCH = ROOT / 'sparsevit_mm' / 'search' / 'command_line.py'
README, CHINESE = ROOT / 'README.md', ROOT / 'README_zh-CN.md'
PAGES = [
    README,
    CHINESE,
    ROOT / 'CHANGELOG.md',
    ROOT / 'benchmarks' / 'README.md',
    *sorted((ROOT / 'docs').glob('*.md')),
]
OF_CONFIGS = sorted((ROOT / 'configs').glob('*/README.md'))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page as words."""
    for block in blocks(page, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            if words := shlex.split(line, comments=True):
                yield words


@pytest.mark.parametrize('name', [name for name in NAMES if name != CHINESE.name and blocks(ROOT / name, 'python')])
def test_python_blocks_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and in one namespace, from the project's root."""
    if 'mmdet' in (ROOT / name).read_text():
        pytest.importorskip('mmdet')
    monkeypatch.chdir(ROOT)
    namespace: dict = {'__name__': '__main__'}
    for number, block in enumerate(blocks(ROOT / name, 'python'), 1):
        exec(compile(block, f'{name}, python block {number}', 'exec'), namespace)


def test_config_of_the_readme_is_one(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    from sparsevit_mm.apis import init_scope, load_config
    from sparsevit_mm.models import SparseSwin
    from sparsevit_mm.registry import MODELS

    (tmp_path / 'config.py').write_text(blocks(README, 'python')[0])
    cfg = load_config(tmp_path / 'config.py')
    init_scope(cfg)
    backbone = MODELS.build(cfg.model.backbone)
    assert isinstance(backbone, SparseSwin)
    assert backbone.sparsity == (0.6, 0, 0.2, 0.4, 0.5, 0)


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_commands_name_what_exists(page: Path) -> None:
    for words in commands(page):
        files = [word for word in words if re.match(r'(tools|configs|docs|tests)/', word)]
        for file in files:
            assert (ROOT / file).exists(), f'{shlex.join(words)}: there is no {file}'
        tool = next((file for file in files if file.startswith('tools/')), None)
        if tool is not None and tool.endswith('.py'):
            sources = [ROOT / tool, *([OF_THE_SEARCH] if 'search' in tool else [])]
            declared = {name for file in sources for name in re.findall(r"'(--[a-z_-]+)'", file.read_text())}
            for option in (word for word in words if word.startswith('--')):
                assert option in declared, f'{shlex.join(words)}: {tool} has no {option}'


@pytest.mark.parametrize('page', [*PAGES, *OF_CONFIGS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if not link.startswith(('http://', 'https://', 'mailto:')):
            target, _, heading = link.partition('#')
            there = page.parent / target if target else page
            assert there.exists(), f'{page.name} links to {target}'
            assert not heading or heading in headings(there), f'{page.name}: {there.name} has no heading #{heading}'


def headings(page: Path) -> set[str]:
    """Those of a page, as links name them."""
    text = re.sub(r'(?ms)^ *```.*?^ *```', '', page.read_text())
    found = re.findall(r'^#+ (.+?)\s*$', text, re.MULTILINE)
    return {
        re.sub(r'[^\w\- ]', '', re.sub(r'\[(.+?)\]\(.*?\)', r'\1', name).lower()).replace(' ', '-') for name in found
    }


def test_chinese_readme_is_in_step() -> None:
    """The same code, the same pictures and links, tables of the same size."""

    def skeleton(page: Path) -> dict[str, list]:
        text = page.read_text()
        code = [line for line in re.findall(r'^```.*?^```', text, re.DOTALL | re.MULTILINE)]
        return {
            'code': [re.sub(r'#.*', '', block) for block in code],
            'headings': [
                len(marks) for marks in re.findall(r'^(#+) ', re.sub(r'(?ms)^```.*?^```', '', text), re.MULTILINE)
            ],
            'table rows': [row.count('|') for row in re.findall(r'^\|.*\|$', text, re.MULTILINE)],
            'links': sorted(t for t in re.findall(r'\]\(([^)]+)\)', text) if not t.startswith('README')),
        }

    english, chinese = skeleton(README), skeleton(CHINESE)
    for part, items in english.items():
        assert chinese[part] == items, part


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_figures_are_all_there(page: Path) -> None:
    assert '<!-- table:' not in page.read_text(), 'a table still waits for its figures'


def script(name: str) -> ModuleType:
    """A script of docs/scripts as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'docs' / 'scripts' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_benchmark_table_is_that_of_the_files() -> None:
    files = sorted((ROOT / 'benchmarks').glob('*.json'))
    rows = [line for file in files for line in script('benchmark_table').lines(file)]
    assert rows and set(rows) <= set((ROOT / 'benchmarks' / 'README.md').read_text().splitlines())


@pytest.mark.parametrize(
    ('name', 'shown'), [('search_demo', 'demo, Swin'), ('search_camvid', 'CamVid, ViT')], ids=lambda value: value[:6]
)
def test_table_of_searches_is_that_of_the_file(name: str, shown: str) -> None:
    record = json.loads((ROOT / 'docs' / 'results' / f'{name}.json').read_text())
    rows = script('compare_search').lines(record, shown)
    assert len(rows) > 3 and set(rows) <= set((ROOT / 'docs' / 'search.md').read_text().splitlines())


def test_results_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is made from the files beside it, and says so where a suite asks for something else by now."""
    pytest.importorskip('mmdet3d')
    from sparsevit_mm.experiments import REPORTED
    from sparsevit_mm.experiments.report import read_chapter, write_document

    copytree(ROOT / 'docs' / 'results', tmp_path / 'docs' / 'results')
    monkeypatch.chdir(tmp_path)
    files = [Path('docs', 'results', f'{suite.name}.jsonl') for suite in REPORTED]
    chapters = [read_chapter(path, ROOT / 'configs') for path in files if path.exists()]
    write_document(chapters, Path('docs', 'results.md'), Path('docs', 'images'))
    assert Path('docs', 'results.md').read_text() == (ROOT / 'docs' / 'results.md').read_text()


@pytest.mark.parametrize('name', ['README.md', 'README_zh-CN.md'])
def test_results_in_the_readme_are_those_of_their_page(name: str) -> None:
    tables = re.findall(r'<!-- results -->\n\n(.*?)\n\n<!-- /results -->', (ROOT / name).read_text(), re.DOTALL)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 10 and set(rows) <= set((ROOT / 'docs' / 'results.md').read_text().splitlines())


@pytest.mark.parametrize(
    ('name', 'page'),
    [('selectors_demo', 'dynamicvit'), ('selectors_camvid', 'dynamicvit'), ('packages_camvid', 'spvit')],
)
def test_table_of_trainings_is_that_of_the_file(name: str, page: str) -> None:
    runs = json.loads((ROOT / 'docs' / 'results' / f'{name}.json').read_text())['runs']
    rows = script('compare_selectors').summary(runs, 'mIoU').splitlines()
    assert len(rows) > 1 and set(rows) <= set((ROOT / 'docs' / f'{page}.md').read_text().splitlines())
