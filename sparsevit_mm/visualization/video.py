"""Video files of frames, by OpenCV."""

from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from .outputs import check_writable, part_of

__all__ = ['VideoFile', 'check_video']

_CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG'}
_FASTEST = 240


def check_video(path: Path, fps: float) -> None:
    """Looks at the options of a video before anything is computed for it.

    Raises:
        ValueError: If the suffix or the number of frames a second cannot be had.
        OSError: If the file cannot be written.
    """
    if path.suffix.lower() not in _CODECS:
        raise ValueError(f'a video must end in {" or ".join(_CODECS)}, got {str(path)!r}.')
    if not 0 < fps <= _FASTEST:
        raise ValueError(f'fps must be above 0 and at most {_FASTEST} frames a second, got {fps:g}.')
    check_writable(path)  # OpenCV would only say that it did not work


class VideoFile:
    """A video that is written frame by frame, and is at its place when it is complete.

    Where OpenCV has no encoder for ``.mp4``, a Motion JPEG ``.avi`` beside it is written instead.

    Args:
        path: The file, ``.mp4`` or ``.avi``.
        fps: Frames a second.

    Attributes:
        path: The file that is written.
        frames: How many frames there are.

    Raises:
        ValueError: If the suffix or the number of frames a second cannot be had.
        OSError: If the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float = 10.0) -> None:
        self.path, self.fps, self.frames = Path(path), fps, 0
        check_video(self.path, fps)
        self._size: tuple[int, int] | None = None
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 RGB; all have the size of the first.

        Raises:
            ValueError: If its size is another one, or OpenCV can encode no video.
        """
        size = frame.shape[1::-1]
        if self._writer is None:
            self._open(size)
        if size != self._size:
            raise ValueError(f'frames of a video have one size, here {self._size}, got one of {size}.')
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
        self.frames += 1

    def __enter__(self) -> 'VideoFile':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if kind is None:
            part_of(self.path).replace(self.path)
        else:
            part_of(self.path).unlink(missing_ok=True)

    def _open(self, size: tuple[int, int]) -> None:
        for path in dict.fromkeys((self.path, self.path.with_suffix('.avi'))):
            codec = cv2.VideoWriter_fourcc(*_CODECS[path.suffix.lower()])
            writer = cv2.VideoWriter(str(part_of(path)), codec, float(self.fps), size)
            if writer.isOpened():
                self.path, self._size, self._writer = path, size, writer
                return
            part_of(path).unlink(missing_ok=True)
        raise ValueError(
            f'OpenCV here can encode neither mp4v nor Motion JPEG, so {self.path} cannot be written: install '
            f'opencv-python or opencv-python-headless from its wheels.'
        )
