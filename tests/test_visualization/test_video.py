from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsevit_mm.visualization import VideoFile, check_video


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Each of its own grey, with a red half."""
    result = []
    for number in range(count):
        frame = np.full((height, width, 3), 40 + 30 * number, np.uint8)
        frame[:, : width // 2] = (220, 20, 20)
        result.append(frame)
    return result


def read(path: Path) -> tuple[list[np.ndarray], float]:
    video = cv2.VideoCapture(str(path))
    found = []
    while (grabbed := video.read())[0]:
        found.append(grabbed[1][..., ::-1])
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return found, rate


@pytest.mark.parametrize('name', ['drive.mp4', 'drive.avi'])
def test_frames_come_back_in_their_order_and_colours(name: str, tmp_path: Path) -> None:
    with VideoFile(tmp_path / 'new' / name, fps=5) as video:
        for frame in frames(4):
            video.write(frame)
        assert not (tmp_path / 'new' / name).exists()  # not before it is complete
    found, rate = read(tmp_path / 'new' / name)
    assert video.frames == len(found) == 4 and rate == pytest.approx(5)
    for own, frame in zip(found, frames(4)):
        assert np.abs(own.astype(int) - frame).mean() < 12
    assert [file.name for file in (tmp_path / 'new').iterdir()] == [name]


REAL = cv2.VideoWriter


class NoMpeg4:
    """As of an OpenCV that was built without an encoder for mp4."""

    def __init__(self, path: str, codec: int, *args) -> None:
        self.refused = codec == cv2.VideoWriter_fourcc(*'mp4v')
        self.writer = REAL(path, codec, *args)
        self.write, self.release = self.writer.write, self.writer.release

    def isOpened(self) -> bool:
        return not self.refused and self.writer.isOpened()


def test_motion_jpeg_where_there_is_no_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, 'VideoWriter', NoMpeg4)
    with VideoFile(tmp_path / 'drive.mp4') as video:
        for frame in frames(3):
            video.write(frame)
    assert video.path == tmp_path / 'drive.avi' and len(read(video.path)[0]) == 3
    assert [file.name for file in tmp_path.iterdir()] == ['drive.avi']


def test_no_encoder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NoMpeg4, 'isOpened', lambda self: False)
    monkeypatch.setattr(cv2, 'VideoWriter', NoMpeg4)
    with pytest.raises(ValueError, match='can encode neither'), VideoFile(tmp_path / 'drive.mp4') as video:
        video.write(frames(1)[0])
    assert not list(tmp_path.iterdir())


def test_a_video_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / 'drive.mp4').write_text('the old one')
    with pytest.raises(RuntimeError), VideoFile(tmp_path / 'drive.mp4') as video:
        video.write(frames(1)[0])
        raise RuntimeError
    assert (tmp_path / 'drive.mp4').read_text() == 'the old one' and len(list(tmp_path.iterdir())) == 1


def test_frames_of_two_sizes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'one size, here \(64, 48\)'), VideoFile(tmp_path / 'drive.mp4') as video:
        video.write(frames(1)[0])
        video.write(frames(1, height=50)[0])


@pytest.mark.parametrize(
    ('name', 'fps', 'kind', 'message'),
    [
        ('drive.gif', 10, ValueError, r'must end in \.mp4 or \.avi'),
        ('drive', 10, ValueError, r'must end in \.mp4 or \.avi'),
        ('drive.mp4', 0, ValueError, 'fps must be above 0'),
        ('drive.mp4', 1000, ValueError, 'at most 240'),
        ('drive.mp4', float('nan'), ValueError, 'fps must be'),
        ('folder.mp4', 10, OSError, r'folder\.mp4'),
        ('file/drive.mp4', 10, OSError, 'file'),
    ],
)
def test_mistakes(name: str, fps: float, kind: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / 'folder.mp4').mkdir()
    (tmp_path / 'file').touch()
    for call in (check_video, VideoFile):
        with pytest.raises(kind, match=message):
            call(tmp_path / name, fps)
