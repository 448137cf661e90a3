import pytest
import torch

from sparsevit_mm.apis import load_config
from sparsevit_mm.cost.subjects import load_subject, parse_sparsity, stock_backbone_config
from sparsevit_mm.cost.suites import CONFIG_2, SUITES, narrow, suite_cases, suite_entries

ENTRIES = [(name, entry) for name, entries in SUITES.items() for entry in entries]
NAMED = pytest.mark.parametrize(('suite', 'entry'), ENTRIES, ids=[f'{name}-{entry.name}' for name, entry in ENTRIES])


@NAMED
def test_configs_exist_and_hold_what_is_timed(suite, entry):
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet3d')
    cfg = load_config(entry.config)
    with torch.device('meta'):
        backbone = load_subject(entry.config, stock=False).sparse
    for text in entry.sparsities:
        backbone.sparsity = parse_sparsity(text)
    if entry.name.startswith('swin-l'):
        assert cfg.model.backbone.embed_dims == 192
    elif 'swin' in suite:
        assert cfg.model.backbone.get('embed_dims', 96) == 96


@pytest.mark.parametrize('suite', SUITES)
def test_names_tell_cases_apart(suite):
    for cuda in (False, True):
        names = [case.name for case in suite_cases(suite_entries(suite), cuda=cuda)]
        assert len(names) == len(set(names)) > 0


def test_cuda_has_more_cases():
    cases = {cuda: suite_cases(suite_entries('swin-coco'), cuda=cuda) for cuda in (False, True)}
    assert {case.name for case in cases[False]} < {case.name for case in cases[True]}
    more = set(cases[True]) - set(cases[False])
    assert {case.batch for case in cases[False]} == {1, 4} and 16 in {case.batch for case in more}
    assert {'float16'} <= {case.dtype for case in more} and 'graphs' in {case.mode for case in more}


def test_the_released_setting_is_that_of_the_config():
    pytest.importorskip('mmdet')
    cfg = load_config('sparsevit_mm::sparsevit/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672_sparse-cfg2.py')
    assert tuple(cfg.model.backbone.sparsity) == parse_sparsity(CONFIG_2)


def test_a_suite_can_be_narrowed():
    cases = suite_cases(suite_entries('swin-coco'))
    some = narrow(cases, batches=[4], dtypes=['bfloat16'], modes=['eager'], names=['spvit'])
    assert [case.name for case in some] == ['spvit-swin-t_672x672_b4_bfloat16_eager']
    assert narrow(cases) == cases


def test_rows_of_a_suite_can_be_narrowed():
    cases = suite_cases(suite_entries('swin-coco'))
    some = narrow(cases, sparsities=['0.6', '0'])
    assert [case.name for case in some] == [case.name for case in cases]
    assert {case.entry.sparsities for case in some} == {('0', '0.6')}
    released = narrow(cases, sparsities=['.6,0,.2,.4,.5,0'])
    assert {case.entry.name for case in released} == {'swin-t'}
    assert f'--sparsity {CONFIG_2} --shape' in ' '.join(released[0].arguments)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(batches=[3]), '--batch 3 is in no case: there is 1, 4'),
        (dict(dtypes=['float16']), '--dtype float16 is in no case'),
        (dict(modes=['graphs']), '--mode graphs is in no case'),
        (dict(sparsities=['0', '.7']), r"--sparsity .7 is in no case: there is '0', '0.2', '0.4'"),
        (dict(names=['swin-l']), r'--case swin-l is part of the name of no case: there is swin-t_800x1344'),
    ],
)
def test_what_is_in_no_case_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        narrow(suite_cases(suite_entries('swin-coco')), **given)


def test_unknown_suites_are_said():
    with pytest.raises(ValueError, match="no suite 'coco': --suite takes one of swin-coco, swin-cityscapes"):
        suite_entries('coco')


def test_stock_of_every_swin_is_known():
    pytest.importorskip('mmdet')
    cfg = load_config('sparsevit_mm::sparsevit/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672_sparse-cfg2.py')
    assert stock_backbone_config(cfg.model.backbone, 'mmdet')['type'] == 'mmdet.SwinTransformer'
