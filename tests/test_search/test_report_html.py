import base64
from html.parser import HTMLParser

import pytest
from fabricated import make_measured, make_outcome

from sparsevit_mm.search.report import write_report

VOID = {'meta', 'img', 'br', 'link', 'hr', 'input'}


class Page(HTMLParser):
    """Sees that what is opened is closed in order, and keeps tags, attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], ''
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f'</{tag}> closes nothing that is open'

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def page(tmp_path):
    def read(outcome=None, facts=None, title='demo', **more):
        write_report(outcome or make_outcome(), tmp_path, facts or {}, title, **more)
        page = Page((tmp_path / 'report.html').read_text(encoding='utf-8'))
        assert not page.open, f'{page.open} are never closed'
        return page

    return read


def test_has_all_that_the_text_has(page, tmp_path):
    outcome = make_outcome(unit='s')
    shown = page(
        outcome,
        {'Config': 'x.py', 'Warning': 'a busy machine'},
        measured=make_measured(outcome),
        commands=[('Test', 'python tools/test.py best_config.py')],
        cost={'Prediction error': 'median 1%'},
    )
    headings = len(shown.all('h2'))
    text = ' '.join(shown.text.split())
    markdown = (tmp_path / 'report.md').read_text()
    assert headings == markdown.count('\n## ')
    for line in markdown.splitlines():
        if line.startswith('| ') and '---' not in line:
            for cell in line.strip('| ').split(' | '):
                assert cell.strip('* ') in text
        elif line.startswith('- '):
            name, _, fact = line[2:].partition(': ')
            assert name in text and fact in text
        elif line and line[0] not in '#!>`|':
            assert line.removesuffix(':') in text
    assert 'a busy machine' in text


def test_loads_nothing(page, tmp_path):
    sample = tmp_path / '1_street.jpg'
    sample.write_bytes(b'picture')
    shown = page(samples=[sample], facts={'Study': 'sqlite:///x, see https://example.invalid/'})
    assert not shown.all('script') and not shown.all('link') and not shown.all('iframe')
    sources = [attrs['src'] for attrs in shown.all('img')]
    assert len(sources) == 3 and all(source.startswith('data:image/') for source in sources)
    assert not [value for _, attrs in shown.tags for key, value in attrs.items() if key in ('href', 'srcset')]
    assert 'url(' not in (tmp_path / 'report.html').read_text() and '@import' not in shown.text
    policy = next(attrs for attrs in shown.all('meta') if attrs.get('http-equiv') == 'Content-Security-Policy')
    assert "default-src 'none'" in policy['content']


def test_pictures_are_those_of_the_folder(page, tmp_path):
    sources = [attrs['src'].partition('base64,')[2] for attrs in page().all('img')]
    files = [(tmp_path / name).read_bytes() for name in ('pareto.png', 'sites.png')]
    assert [base64.b64decode(source) for source in sources] == files
    assert all(attrs['alt'] for attrs in page().all('img'))


def test_names_are_no_markup(page):
    evil = '<script>alert("x")</script>\'"&<img src=http://example.invalid/x>'
    outcome = make_outcome(sites=(evil, 'b', 'c'), metric=evil)
    shown = page(outcome, {evil: evil, 'Warning': evil}, evil, commands=[(evil, evil)], cost={evil: evil})
    assert not shown.all('script') and len(shown.all('img')) == 2
    assert shown.text.count('<script>alert("x")</script>') >= 10


def test_is_made_for_small_screens_and_dark_rooms(page, tmp_path):
    assert [attrs for attrs in page().all('meta') if attrs.get('name') == 'viewport']
    text = (tmp_path / 'report.html').read_text()
    assert 'prefers-color-scheme: dark' in text and '@media print' in text


def test_found_row_stands_out(page, tmp_path):
    marked = [attrs for attrs in page().all('tr') if attrs.get('class') == 'marked']
    assert len(marked) == 1
    assert not [attrs for attrs in page(make_outcome(budget=None)).all('tr') if attrs.get('class') == 'marked']
