import re

import pytest
from fabricated import UNIFORM, make_outcome
from mmengine.config import Config

from sparsevit_mm.apis import load_config
from sparsevit_mm.search.found_configs import config_commands, front_config_name, write_configs

BASE = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='SwinTransformer', depths=(4, 2), strides=(4, 2), out_indices=(0, 1)),
    decode_head=dict(type='FCNHead', in_channels=32),
)
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / 'base.py'
    path.write_text(BASE)
    return path


def write(outcome, folder, base, checkpoint='/weights/adapted.pth'):
    return write_configs(outcome, folder, load_config(base), base, checkpoint, 'MACs of the backbone')


def test_budget_gives_one_config(base, tmp_path):
    outcome = make_outcome()
    (path,) = write(outcome, tmp_path / 'work', base)
    cfg = load_config(path)
    assert path == tmp_path / 'work' / 'best_config.py' and not (tmp_path / 'work' / 'front').exists()
    assert cfg.model.backbone.sparsity == outcome.best.sparsity and cfg.load_from == '/weights/adapted.pth'
    text = path.read_text()
    assert f'mIoU {outcome.best.accuracy:.4g} on the search images, dense 60' in text
    assert f'MACs of the backbone: {outcome.best.cost:.4g} MACs, {outcome.best.cost / 10:.3f} of dense' in text
    assert f'python tools/test.py {path} /weights/adapted.pth' in text and f'python tools/train.py {path}' in text
    assert 'FCNHead' not in text


def test_nothing_before_the_first_result(base, tmp_path):
    assert write(make_outcome([]), tmp_path / 'work', base) == []
    assert not (tmp_path / 'work').exists()


def test_front_has_a_config_for_every_setting(base, tmp_path):
    outcome = make_outcome(budget=None)
    best, *front = write(outcome, tmp_path, base)
    assert load_config(best).model.backbone.sparsity == outcome.best.sparsity
    assert 'no budget' in best.read_text()
    assert [load_config(path).model.backbone.sparsity for path in front] == [e.sparsity for e in outcome.front]
    assert [path.name for path in front] == sorted(path.name for path in (tmp_path / 'front').iterdir())
    for path, e in zip(front, outcome.front):
        assert path.stem.isidentifier()
        assert path.name.startswith(f'cost_{e.cost / 10:.4f}_mIoU_'.replace('.', '_'))


def test_written_again_what_left_the_front_is_gone_and_nothing_else(base, tmp_path):
    first = make_outcome(UNIFORM, budget=None)
    write(first, tmp_path, base)
    own = tmp_path / 'front' / 'cost_of_my_own_trial_7.py'
    own.write_text('# mine\n')
    copied = tmp_path / 'front' / 'mine.py'
    copied.write_text((tmp_path / 'best_config.py').read_text())
    second = make_outcome(budget=None)
    names = {path.name for path in write(second, tmp_path, base)[1:]}
    gone = {front_config_name(first, e) for e in first.front} - names
    assert gone
    assert {path.name for path in (tmp_path / 'front').iterdir()} == names | {own.name, copied.name}


def test_what_is_there_is_not_written_again(base, tmp_path):
    outcome = make_outcome(budget=None)
    files = write(outcome, tmp_path, base)
    times = [path.stat().st_ino for path in files]
    write(outcome, tmp_path, base)
    assert [path.stat().st_ino for path in files] == times
    base.write_text(BASE.replace('in_channels=32', 'in_channels=64'))
    files[1].write_text(files[1].read_text() + 'broken')
    write(outcome, tmp_path, base)
    assert load_config(files[1]).model.decode_head.in_channels == 64


def test_without_a_file_to_inherit(tmp_path):
    cfg = Config(dict(default_scope='mmseg', model=dict(backbone=dict(type='SwinTransformer'))))
    outcome = make_outcome(budget=None)
    files = write_configs(outcome, tmp_path, cfg, None)
    assert load_config(files[1]).model.backbone.sparsity == outcome.front[0].sparsity
    assert 'CHECKPOINT' in files[1].read_text()


def test_paths_with_spaces_and_quotes(base, tmp_path):
    folder = tmp_path / 'my "best" \\new results'
    (path,) = write(make_outcome(), folder, base, '/my weights/a.pth')
    assert load_config(path).load_from == '/my weights/a.pth'
    namespace = {}
    exec(compile(re.match(r'""".*?\n"""', path.read_text(), re.DOTALL)[0], path, 'exec'), namespace)
    assert config_commands(path, '/my weights/a.pth')[0][1] in namespace['__doc__']


def test_names_hold_for_any_metric():
    outcome = make_outcome(budget=None, score=lambda s: -0.03 - sum(s), metric='coco/bbox_mAP')
    name = front_config_name(outcome, outcome.front[0])
    assert re.fullmatch(r'cost_0_2800_bbox_mAP_minus2_4300_trial_\d+\.py', name)
