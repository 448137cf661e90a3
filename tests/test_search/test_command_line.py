"""What a user says on the command line of a search, and what the loop is told."""

import argparse

import pytest

from sparsevit_mm.search.command_line import add_search_options, loop_options


def options(*words, **configured):
    parser = argparse.ArgumentParser()
    add_search_options(parser)
    return loop_options(parser.parse_args([str(word) for word in words]), configured)


@pytest.mark.parametrize(
    ('words', 'wanted'),
    [
        (['--budget', '0.6'], dict(budget=0.6)),
        (['--budget', '60%'], dict(budget='60%')),
        (['--budget', '30ms'], dict(budget='30ms')),
        (['--budget', '60G', '--budget-metric', 'macs'], dict(budget='60G', budget_metric='macs')),
        (['--budget-ms', '30'], dict(budget='30ms', budget_metric='latency')),
        (['--budget-ms', '30.25ms'], dict(budget='30.25ms', budget_metric='latency')),
        (['--budget-ms', '7', '--budget-metric', 'latency'], dict(budget='7ms', budget_metric='latency')),
        (['--budget-macs', '60G'], dict(budget='60G', budget_metric='macs')),
        (['--budget-macs', '0.6'], dict(budget=0.6, budget_metric='macs')),
        (['--pareto'], dict(budget=None)),
        (['--pareto', '--budget-metric', 'macs'], dict(budget=None, budget_metric='macs')),
    ],
)
def test_budgets(words, wanted):
    assert options(*words) == wanted


def test_all_options_arrive_under_the_names_of_the_loop():
    words = '--budget .5 --shape 64 96 --batch 2 --dtype bfloat16 --device cpu --latency-table t.json --foreign'
    words += ' --latency-rounds 3'
    words += ' --trials 9 --choices 0 .5 --search-images 8 --rungs 0.25 4 --metric mAP --lower-is-better --seed 3'
    words += ' --storage postgresql://u@h/d --study-name s --heartbeat 5 --grace 20'
    assert options(*words.split()) == dict(
        budget=0.5, shape=[64, 96], batch=2, dtype='bfloat16', device='cpu', latency_table='t.json', foreign=True,
        latency_rounds=3, trials=9, choices=[0, 0.5], search_images=8, rungs=[0.25, 4], metric='mAP',
        higher_is_better=False, seed=3, storage='postgresql://u@h/d', study_name='s', heartbeat=5, grace=20,
    )  # fmt: skip
    assert options('--budget', '.5', '--whole-model', '--higher-is-better') == dict(
        budget=0.5, whole_model=True, higher_is_better=True
    )


def test_a_rung_is_a_number_of_images_or_a_fraction():
    rungs = options('--budget', '.5', '--rungs', '0.25', '100', '1')['rungs']
    assert [(value, type(value)) for value in rungs] == [(0.25, float), (100, int), (1, int)]


def test_the_command_line_overrides_the_config():
    configured = dict(budget='60G', budget_metric='macs', trials=5, seed=1, foreign=False)
    assert options(**configured) == configured
    assert options('--budget-ms', 30, '--trials', 7, **configured) == dict(
        budget='30ms', budget_metric='latency', trials=7, seed=1, foreign=False
    )
    assert options('--pareto', **configured)['budget'] is None
    assert options('--foreign', budget=0.5, latency_table='t.json')['foreign'] is True
    assert options('--budget-macs', 0.5, latency_table='t.json', budget=0.6)['budget_metric'] == 'macs'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('', '--budget is missing: .* --budget-ms or --budget-macs, or --pareto'),
        ('--trials 3', '--budget is missing'),
        ('--budget-ms 0', '--budget-ms 0: give milliseconds above 0, such as --budget-ms 30'),
        ('--budget-ms=-3', '--budget-ms -3: give milliseconds above 0'),
        ('--budget-ms nan', '--budget-ms nan: give milliseconds'),
        ('--budget-ms 60G', '--budget-ms 60G: give milliseconds'),
        ('--budget-ms 60%', '--budget-ms 60%: .* written --budget 0.6'),
        ('--budget-macs 60', '--budget-macs 60: budget is 60.0, but a plain number is a fraction'),
        ('--budget-macs 30ms', "--budget-macs 30ms: budget '30ms' cannot be read"),
        ('--budget-macs 0', '--budget-macs 0: budget is 0.0'),
        ('--budget-ms 30 --budget-metric macs', '--budget-ms is a budget of latency, but --budget-metric is macs'),
        ('--budget-macs 1G --budget-metric latency', '--budget-macs is a budget of macs, but --budget-metric is lat'),
        ('--budget-macs 1G --latency-table t.json', '--latency-table: only of use for a budget of latency, but macs'),
        ('--budget-macs 1G --latency-rounds 3', '--latency-rounds: only of use for a budget of latency, but macs'),
        ('--budget .5 --budget-metric macs --whole-model', '--whole-model: only of use for a budget of latency'),
        ('--pareto --budget-metric macs --latency-table t --foreign', '--latency-table, --foreign: only of use'),
        ('--budget .5 --foreign', '--foreign is about the device of a latency table: give one'),
        ('--budget .5 --foreign --latency-table t --whole-model', '--whole-model times neck and heads on this machine'),
        ('--pareto --rungs 0.5', '--rungs needs a budget: .* Leave out --rungs, or --pareto'),
    ],
)
def test_contradictions_are_said(words, message):
    with pytest.raises(ValueError, match=message):
        options(*words.split())


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--budget .5 --pareto', 'not allowed with argument --budget'),
        ('--budget-ms 30 --budget-macs 1G', 'not allowed with argument --budget-ms'),
        ('--budget .5 --higher-is-better --lower-is-better', 'not allowed with argument --higher-is-better'),
        ('--budget .5 --rungs some', "'some' is neither a fraction of the search images"),
        ('--budget .5 --heartbeat soon', 'invalid int value'),
    ],
)
def test_words_that_argparse_refuses(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        options(*words.split())
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_contradictions_with_the_config_are_said_too():
    assert 'rungs' not in options('--pareto', budget=0.5, rungs=[0.5]), 'the rungs of a config are for its budget'
    with pytest.raises(ValueError, match='only of use for a budget of latency, but macs are counted'):
        options('--latency-table', 't.json', budget=0.5, budget_metric='macs')
