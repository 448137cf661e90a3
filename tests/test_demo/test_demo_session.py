"""Demos of small models of the three packages: pictures, costs, and callers that do not mix."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_models import ADAPTIVE, DETECTOR, MONO_3D, PACKAGES, SEGMENTOR, SITES, write_config, write_picture
from PIL import Image

from sparsevit_mm.cost import count_macs
from sparsevit_mm.demo import Cameras, Demo, load_demo

SPARSE = (0.6, 0.0, 0.3, 0.6, 0.0)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('demo')


@pytest.fixture(scope='module')
def picture(folder: Path) -> Path:
    return write_picture(folder / 'picture.png')


@pytest.fixture(scope='module')
def segmentor(folder: Path) -> Demo:
    torch.manual_seed(0)
    return load_demo(write_config(folder, SEGMENTOR), None, rounds=3)


@pytest.mark.parametrize('package', PACKAGES)
def test_every_package_is_shown(package: str, folder: Path, picture: Path) -> None:
    demo = load_demo(write_config(folder, PACKAGES[package]), None, score_thr=None if package == 'mmseg' else 0.0)
    assert not demo.trained and demo.layout.sites == SITES and demo.start == (0.5,) * 5
    result = demo.render(picture, SPARSE)
    assert [site_map.site for site_map in result.maps] == list(SITES)
    assert result.maps[0].kept < result.maps[0].units and result.maps[1].kept == result.maps[1].units
    height, width = (120, 200) if package == 'mmdet' else (96, 160)  # boxes are drawn on the picture of the file
    assert result.dense.shape[:2] == result.sparse.shape[:2] == (height, width)
    assert result.dense.dtype == np.uint8 and result.dense.std() > 5
    assert (result.sparse != result.dense).any()  # another prediction
    assert result.agreement
    assert len(result.draw_sites()) == 5
    assert any('camera is assumed' in note for note in result.notes) == (package == 'mmdet3d')
    dense = demo.render(picture, 0.0)
    assert (dense.sparse == dense.dense).all() and dense.macs == dense.dense_macs > result.macs
    assert any('nothing is skipped' in note for note in dense.notes)
    demo.backbone.sparsity = SPARSE
    assert result.macs == count_macs(demo.backbone, result.shape)


def test_agreement_is_counted(segmentor: Demo, picture: Path) -> None:
    assert segmentor.render(picture, 0.0).agreement.startswith('100.0%')
    assert not segmentor.render(picture, 0.9).agreement.startswith('100.0%')


@pytest.mark.parametrize('package', ['mmdet', 'mmdet3d'])
def test_boxes_of_the_same_model_are_found_again(package: str, folder: Path, picture: Path) -> None:
    demo = load_demo(write_config(folder, PACKAGES[package]), None, score_thr=0.0)
    words = demo.render(picture, 0.0).agreement
    number = words.split()[0]
    assert int(number) > 0
    assert words.startswith(f'{number} of the {number} boxes') and f'among {number}.' in words
    strict = Demo(demo.model, score_thr=0.99)
    assert 'finds nothing above a score of 0.99' in strict.render(picture, 0.0).agreement


def test_overlay_follows_the_setting(segmentor: Demo, picture: Path) -> None:
    low, high = (segmentor.render(picture, sparsity) for sparsity in (0.1, 0.9))
    assert low.seen.shape == high.seen.shape == (96, 160, 3)
    assert (low.overlay != high.overlay).mean() > 0.1
    assert sum(int(m.counts.sum()) for m in high.maps) < sum(int(m.counts.sum()) for m in low.maps)


def test_latencies_of_dense_and_sparse(segmentor: Demo, picture: Path) -> None:
    before = segmentor.backbone.sparsity
    latency = segmentor.measure(picture, 0.9)
    assert latency.rounds == 3 and latency.environment.shape == segmentor.render(picture, 0.9).shape
    for record in (latency.dense_backbone, latency.backbone, latency.dense_model, latency.model):
        assert 0 < record.q1 <= record.median <= record.q3
    assert latency.dense_model.median > latency.dense_backbone.median
    assert 'segmentor' in latency.scope
    assert segmentor.backbone.sparsity == before
    assert segmentor.try_out(picture) > 0


def test_measuring_stops_when_nobody_waits(segmentor: Demo, picture: Path) -> None:
    asked = []
    assert segmentor.measure(picture, 0.5, lambda: asked.append(1) or True) is None
    assert asked == [1]
    assert segmentor.backbone.sparsity == (0.0,) * 5


def test_callers_at_once_do_not_mix_their_settings(segmentor: Demo, picture: Path, folder: Path) -> None:
    other = write_picture(folder / 'other.png', seed=1)
    wishes = [(path, sparsity) for sparsity in (0.0, 0.3, 0.9) for path in (picture, other)]
    alone = [segmentor.render(*wish) for wish in wishes]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda wish: segmentor.render(*wish), wishes))
    for result, expected in zip(together, alone):
        assert result.sparsity == expected.sparsity and result.macs == expected.macs
        assert [m.kept for m in result.maps] == [m.kept for m in expected.maps]
        assert (result.sparse == expected.sparse).all() and (result.dense == expected.dense).all()


def test_a_changed_file_is_read_again(segmentor: Demo, folder: Path) -> None:
    path = write_picture(folder / 'changing.png', seed=2)
    first = segmentor.render(path, 0.5)
    write_picture(path, (240, 120), seed=3)
    assert segmentor.render(path, 0.5).dense.shape != first.dense.shape


def test_huge_pictures_are_made_smaller(segmentor: Demo, folder: Path) -> None:
    path = write_picture(folder / 'huge.jpg', (6000, 3000))
    result = segmentor.render(path, 0.5)
    assert any('6000 x 3000 pixels is large and was made 2048 x 1024' in note for note in result.notes)
    assert result.seen.shape == result.dense.shape == (80, 160, 3)


def test_pictures_of_other_kinds(segmentor: Demo, folder: Path) -> None:
    """Grey, with transparency, of 16 bits, with a palette, and on its side by EXIF."""
    array = np.random.default_rng(0).integers(0, 255, (60, 100), dtype=np.uint8)
    Image.fromarray(array).save(folder / 'grey.png')
    Image.fromarray(np.dstack([array] * 4)).save(folder / 'alpha.png')
    Image.fromarray(array.astype(np.uint16) * 256).save(folder / 'deep.png')
    Image.fromarray(array).convert('P').save(folder / 'palette.png')
    for name in ('grey', 'alpha', 'deep', 'palette'):
        assert segmentor.render(folder / f'{name}.png', 0.5).dense.shape == (60, 100, 3)
    turned = Image.fromarray(np.dstack([array] * 3))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / 'turned.jpg', exif=exif)
    assert segmentor.render(folder / 'turned.jpg', 0.5).dense.shape == (100, 60, 3)


def test_files_that_are_no_pictures(segmentor: Demo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b'', b'no picture', write_picture(folder / 'cut.png').read_bytes()[:60]):
        (folder / 'broken.png').write_bytes(content)
        with pytest.raises(ValueError, match=r'broken\.png cannot be read as an image'):
            segmentor.render(folder / 'broken.png', 0.5)
    with pytest.raises(ValueError, match=r'no image .*missing\.png'):
        segmentor.render(folder / 'missing.png', 0.5)
    monkeypatch.setattr('sparsevit_mm.demo.pictures.MOST_PIXELS', 1000)
    with pytest.raises(ValueError, match=r'large\.png is too large'):
        segmentor.render(write_picture(folder / 'large.png'), 0.5)


def test_sparsity_that_does_not_fit(segmentor: Demo, picture: Path) -> None:
    with pytest.raises(ValueError, match='5 sites'):
        segmentor.render(picture, (0.5, 0.5))
    with pytest.raises(ValueError, match=r'--settings found: .*5 sites'):
        Demo(segmentor.model, settings={'found': (0.1, 0.2)})


def test_where_sliders_begin(folder: Path) -> None:
    config = write_config(folder, SEGMENTOR)
    assert load_demo(config, None, sparsity=SPARSE).start == SPARSE
    options = {'custom_imports': dict(imports=['sparsevit_mm']), 'model.backbone.type': 'sparsevit_mm.SparseSwin'}
    assert load_demo(config, None, cfg_options={**options, 'model.backbone.sparsity': 0.2}).start == (0.2,) * 5


def test_checkpoint_and_settings(folder: Path, segmentor: Demo, picture: Path) -> None:
    torch.save(dict(state_dict=segmentor.model.state_dict()), folder / 'weights.pth')
    demo = load_demo(write_config(folder, SEGMENTOR), str(folder / 'weights.pth'), settings={'half': 0.5})
    assert demo.trained and demo.settings == {'half': (0.5,) * 5}
    assert (demo.render(picture, 0.6).sparse == segmentor.render(picture, 0.6).sparse).all()


def test_models_that_predict_on_crops(folder: Path, picture: Path) -> None:
    options = {'model.test_cfg': dict(mode='slide', crop_size=(64, 64), stride=(48, 48))}
    result = load_demo(write_config(folder, SEGMENTOR), None, cfg_options=options).render(picture, 0.5)
    assert any('sliding crops' in note for note in result.notes)
    assert result.maps[0].blocks == 2 and result.maps[0].counts.shape == (96, 160)


def test_adaptive_counts(folder: Path, picture: Path) -> None:
    demo = load_demo(write_config(folder, ADAPTIVE), None, rounds=3)
    assert demo.adaptive and demo.start == (0.3, 0.5)
    first, second = demo.render(picture, 0.9), demo.render(picture, 0.0)
    assert first.sparsity == second.sparsity == (0.3, 0.5)  # it is not for a slider to say
    assert first.macs == second.macs > 0
    assert 'sparsity' not in first.maps[0].title
    assert demo.measure(picture, 0.9).rounds == 3


@pytest.mark.data
def test_camera_of_kitti_is_taken(folder: Path, data_root: Path) -> None:
    file = data_root / 'kitti_mini' / 'kitti_infos_val_mono3d.json'
    demo = load_demo(write_config(folder, MONO_3D), None, camera=file, score_thr=0.0)
    image = next((data_root / 'kitti_mini' / 'training' / 'image_2').glob('000025.*'))
    result = demo.render(image, 0.5)
    assert any(f'Camera of {image.name} in {file.name}.' in note for note in result.notes)
    assert result.sparse.shape == result.seen.shape


def test_camera_goes_with_the_picture(folder: Path, picture: Path) -> None:
    (folder / 'matrix.json').write_text('[[200, 0, 100], [0, 200, 60], [0, 0, 1]]')
    demo = load_demo(write_config(folder, MONO_3D), None)
    read = type(demo._read)(demo.model, 'seen', Cameras(folder / 'matrix.json'))
    prepared = read(picture)  # 200 x 120 in the file, 160 x 96 in the network
    assert prepared.camera.matrix.tolist() == pytest.approx(np.array([[160, 0, 80], [0, 160, 48], [0, 0, 1]]))
    assert np.allclose(prepared.samples[0].cam2img, prepared.camera.matrix)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(config='missing.py'), r'missing\.py'),
        (dict(checkpoint='missing.pth'), r'missing\.pth'),
        (dict(sparsity=2.0), r'2\.0'),
        (dict(camera='missing.json'), '--camera: there is no file'),
        (dict(score_thr=1.5), r'score_thr must be in \[0, 1\)'),
        (dict(rounds=2), 'rounds must be at least 3'),
        (dict(cfg_options={'model.backbone.type': 'mmseg.ResNetV1c'}), 'exactly one backbone that can be made sparse'),
    ],
)
def test_mistakes(options: dict, message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_demo(**{'config': write_config(folder, SEGMENTOR), 'checkpoint': None, **options})


def test_detectors_of_point_clouds_are_refused(folder: Path) -> None:
    demo = load_demo(write_config(folder, DETECTOR), None)
    demo.model.cfg.default_scope = 'mmdet3d'
    with pytest.raises(ValueError, match='monocular detectors'):
        Demo(demo.model)
    demo.model.cfg.default_scope = 'mmpretrain'
    with pytest.raises(ValueError, match="default_scope of the config is 'mmpretrain'"):
        Demo(demo.model)
