"""Pictures to begin with."""

from pathlib import Path

from ..cost.images import write_photographs
from ..files import list_images

__all__ = ['MOST', 'example_pictures']

MOST = 24  # thumbnails that a page shows


def example_pictures(images: str | Path | None, folder: Path) -> list[Path]:
    """Files to choose from: those of a folder, else photographs of scikit-image.

    Args:
        images: A folder of images or one image; None for the photographs.
        folder: Where the photographs are written.

    Returns:
        At most ``MOST`` files, spread over the folder.

    Raises:
        ValueError: If there is no such folder or no image in it, or scikit-image is needed and not installed.
    """
    if images is not None:
        files = list_images([images])
        count = min(len(files), MOST)
        return [files[i * len(files) // count] for i in range(count)]
    return write_photographs(Path(folder))
