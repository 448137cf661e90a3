from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from seen_images import GREEN, RED, area, plain, seen_image

from sparsevit_mm.visualization import FrameMaker, UnreadableImage, VideoFile, make_video
from sparsevit_mm.visualization.frames import letterbox

META = dict(classes=['ground'], palette=[[7, 99, 211]])


def test_overlay_beside_the_prediction_and_a_caption_below() -> None:
    frame = FrameMaker(meta=META)(seen_image())
    height, width = frame.shape[:2]
    assert height % 2 == width % 2 == 0
    prediction = frame[: height - 60, width // 2 + 10 :]
    assert area(prediction, GREEN) > 0.9 * prediction.shape[0] * prediction.shape[1]
    assert area(frame[:, : width // 2], GREEN) == 0
    heat = frame[: height - 60, : width // 2].astype(int)
    assert np.abs(heat[:, :200].mean((0, 1)) - heat[:, 440:640].mean((0, 1))).max() > 40
    caption = frame[height - 56 :]
    assert (caption > 200).all(-1).sum() > 500 and area(caption, (7, 99, 211)) > 80


def test_captions_name_the_file_and_its_numbers() -> None:
    frames = [
        FrameMaker()(seen_image(name, macs_share=share))
        for name, share in (('a.png', 0.5), ('b.png', 0.5), ('a.png', 0.6), ('a.png', 0.5))
    ]
    assert np.array_equal(frames[0], frames[3])
    half = frames[0].shape[1] // 2
    for other, same, changed in (
        (frames[1], np.s_[:, half:], np.s_[:, :half]),
        (frames[2], np.s_[:, :half], np.s_[:, half:]),
    ):
        assert np.array_equal(frames[0][same], other[same]) and not np.array_equal(frames[0][changed], other[changed])


def test_images_of_other_sizes_are_letterboxed() -> None:
    draw = FrameMaker()
    first, tall, small = (
        draw(seen_image()),
        draw(seen_image(height=300, width=100)),
        draw(seen_image(height=20, width=30)),
    )
    assert first.shape == tall.shape == small.shape
    height = first.shape[0] - 56
    greens = [area(frame[:height], GREEN) for frame in (first, tall, small)]
    assert greens[2] == pytest.approx(greens[0], rel=0.01)
    assert greens[1] == pytest.approx(height * height / 3, rel=0.05)


@pytest.mark.parametrize('size', [(1000, 60), (60, 1000), (37, 53), (1080, 1920)])
def test_any_first_size_gives_a_frame_with_room_for_its_caption(size: tuple[int, int]) -> None:
    frame = FrameMaker()(seen_image('a' * 200 + '.png', *size))
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0 and frame.shape[1] >= 640
    assert frame.shape[0] <= 700


def test_letterbox_keeps_the_aspect() -> None:
    box = np.asarray(letterbox(plain(RED, 50, 100), (80, 80)))
    rows, columns = np.nonzero((np.abs(box.astype(int) - RED) < 12).all(-1))
    assert box.shape == (80, 80, 3) and rows.min() == 20 and rows.max() == 59 and columns.max() - columns.min() == 79


def test_what_one_site_kept() -> None:
    frame = FrameMaker('stage1.pair1')(seen_image())
    left = frame[: frame.shape[0] - 60, :300]
    assert area(left, RED) > 0.9 * left.shape[0] * left.shape[1]
    skipped = frame[: frame.shape[0] - 60, 340:620]
    assert area(skipped, RED) == 0 and skipped.mean() < 90
    with pytest.raises(ValueError, match=r"overlay 'stage9' is neither 'heat' nor .*: stage1\.pair1"):
        FrameMaker('stage9')(seen_image())


def inspector_of(broken: set[str] = frozenset()):
    def look(path: Path):
        if path.name in broken:
            raise UnreadableImage(f'{path} cannot be read as an image.')
        return seen_image(path.name)

    look.painter = SimpleNamespace(meta=META)
    return look


def test_video_in_the_order_of_the_images_without_the_unreadable(tmp_path: Path) -> None:
    told = []
    images = [Path(name) for name in ('1.png', '2.png', '3.png')]
    with VideoFile(tmp_path / 'drive.mp4') as video:
        make_video(inspector_of({'2.png'}), images, video, skipped=told.append)
    assert video.frames == 2 and [str(error) for error in told] == ['2.png cannot be read as an image.']
    opened = cv2.VideoCapture(str(tmp_path / 'drive.mp4'))
    assert int(opened.get(cv2.CAP_PROP_FRAME_COUNT)) == 2
    assert opened.get(cv2.CAP_PROP_FRAME_WIDTH) == FrameMaker()(seen_image()).shape[1]
    opened.release()


def test_no_image_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'none of 1 file\(s\)'), VideoFile(tmp_path / 'drive.mp4') as video:
        make_video(inspector_of({'2.png'}), [Path('2.png')], video)
    assert not list(tmp_path.iterdir())
