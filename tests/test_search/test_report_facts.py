from fabricated import make_outcome

from sparsevit_mm.search.report.facts import environment_facts, search_facts, space_facts
from sparsevit_mm.version import __version__


def test_space_that_was_not_counted():
    assert 'Within the budget' not in space_facts(make_outcome(feasible_size=None))


def test_quiet_about_what_did_not_happen():
    quiet = search_facts(make_outcome(stopped_early=0, duplicates=0, workers=1, trials=None))
    assert set(quiet) == {'Metric', 'Candidates', 'Evaluated on all images', 'Workers'}
    assert quiet['Workers'] == '1 process' and ' of ' not in quiet['Candidates']
    loud = search_facts(make_outcome(failed=(3, 5), interrupted=2))
    assert loud['Failed'].startswith('trials 3, 5') and loud['Interrupted'].startswith('2 ')


def test_environment():
    facts = environment_facts()
    assert f'sparsevit_mm {__version__}' in facts['Packages'] and 'numpy' in facts['Packages']
