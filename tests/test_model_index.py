"""The model index as mim and mmengine read it: every entry is whole, found by name, and claims no weights it lacks."""

from pathlib import Path

import pytest
import yaml
from mmengine.config.utils import _get_cfg_metainfo

from sparsevit_mm.config import load_config

ROOT = Path(__file__).parents[1]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
METAFILES = [yaml.safe_load((ROOT / path).read_text()) for path in INDEX['Import']]
COLLECTIONS = [collection for metafile in METAFILES for collection in metafile['Collections']]
MODELS = [model for metafile in METAFILES for model in metafile['Models']]
CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_')
# Key -> whether an entry must have it. What has no weights leaves them out: mmengine then says that there are none.
OF_A_MODEL = {'Name': True, 'In Collection': True, 'Config': True, 'Metadata': True, 'Results': False, 'Weights': False}
OF_A_COLLECTION = {'Name': True, 'Metadata': True, 'Paper': True, 'README': True}


def check_keys(entry, keys):
    assert set(entry) <= set(keys), entry
    assert {key for key, needed in keys.items() if needed} <= set(entry), entry


def test_collections_are_whole():
    for collection in COLLECTIONS:
        check_keys(collection, OF_A_COLLECTION)
        assert set(collection['Paper']) == {'Title', 'URL'} and collection['Paper']['URL'].startswith('https://')
        assert all(isinstance(word, str) for word in collection['Metadata']['Architecture'])
        assert (ROOT / collection['README']).is_file()
    names = [collection['Name'] for collection in COLLECTIONS]
    assert len(set(names)) == len(names)
    assert set(names) == {model['In Collection'] for model in MODELS}


def test_models_are_whole():
    names = [model['Name'] for model in MODELS]
    assert len(set(names)) == len(names)
    assert sorted(ROOT / model['Config'] for model in MODELS) == CONFIGS
    for model in MODELS:
        check_keys(model, OF_A_MODEL)
        assert Path(model['Config']).stem == model['Name']
        assert isinstance(model['Metadata']['Training Data'], str)
        assert all(isinstance(word, str) for word in model['Metadata']['Training Techniques'])
        for result in model.get('Results', ()):
            assert set(result) == {'Task', 'Dataset', 'Metrics'} and result['Metrics']
            assert all(isinstance(value, int | float) for value in result['Metrics'].values())


def test_only_models_of_others_have_weights():
    """What has weights is a stock model under its own name, and starts from nothing else."""
    with_weights = [model for model in MODELS if 'Weights' in model]
    assert with_weights
    for model in with_weights:
        assert '_sparse-' not in model['Name'] and 'Results' in model
        assert model['Weights'].startswith('https://download.openmmlab.com/') and model['Weights'].endswith('.pth')


@pytest.mark.parametrize('model', MODELS[:: len(MODELS) // 4], ids=lambda model: model['Name'])
def test_mmengine_finds_an_entry_by_the_name_of_its_config(model, tmp_path):
    """As ``mmengine.hub.get_config`` and ``_base_`` do, which look below ``.mim``."""
    (tmp_path / '.mim').mkdir()
    for name in ('model-index.yml', 'configs'):
        (tmp_path / '.mim' / name).symlink_to(ROOT / name)
    found = _get_cfg_metainfo(str(tmp_path), model['Config'].removeprefix('configs/'))
    assert found['Name'] == model['Name'] and found['Config'] == model['Config']


def test_base_of_this_package_is_found_by_name(tmp_path):
    name = next(model['Config'] for model in MODELS if model['In Collection'] == 'Demo').removeprefix('configs/')
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = 'sparsevit_mm::{name}'\nmodel = dict(backbone=dict(drop_path_rate=0.5))")
    cfg = load_config(mine)
    assert cfg.model.backbone.drop_path_rate == 0.5 and cfg.model.backbone.type == 'sparsevit_mm.SparseSwin'


def test_library_of_mim_reads_the_index():
    index = pytest.importorskip('modelindex').load_model_index.load(str(ROOT / 'model-index.yml'))
    # It looks for a README beside the metafile; in OpenMMLab's indices, as here, the path is one of the project.
    assert not [error for error in index.check(silent=True) if 'Path to README file configs/' not in error]
    read = {model.name: model for model in index.models}
    assert set(read) == {model['Name'] for model in MODELS}
    for model in MODELS:
        assert read[model['Name']].config == model['Config'] and read[model['Name']].weights == model.get('Weights')
        assert read[model['Name']].full_model.data['Paper']['URL'].startswith('https://arxiv.org/')


def test_mim_lists_the_index():
    search = pytest.importorskip('mim.commands.search')
    index = pytest.importorskip('modelindex').load_model_index.load(str(ROOT / 'model-index.yml'))
    table = search.convert2df(index)
    assert set(table.index) == {model['Name'] for model in MODELS}
    demo = search.filter_by_training_datasets(table, ['sparsevit_mm demo set'])
    assert len(demo) == sum(model['Metadata']['Training Data'] == 'sparsevit_mm demo set' for model in MODELS)
