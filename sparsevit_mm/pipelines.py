"""What a config's own pipeline does to the images that it is tested on."""

from copy import deepcopy

from mmengine.config import Config, ConfigDict

__all__ = ['input_shape', 'test_pipeline']


def test_pipeline(cfg: Config) -> list[ConfigDict]:
    """The pipeline of the first data set that a config is tested on, as a copy.

    Raises:
        ValueError: If it has none.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and 'pipeline' not in dataset:
        dataset = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
    steps = dataset['pipeline'] if dataset else cfg.get('test_pipeline')
    if not steps:
        raise ValueError(
            'The config has no test pipeline: neither test_dataloader.dataset.pipeline nor test_pipeline is there.'
        )
    return deepcopy(steps)


def input_shape(cfg: Config) -> tuple[int, int]:
    """Height and width that a config tests on, as far as it says.

    For segmentors it is the size that the preprocessor brings images to, else the scale of the test pipeline, rounded
    up as images are padded. Images of another aspect are smaller there, and have to be padded to it.

    Raises:
        ValueError: If the config does not say.
    """
    preprocessor = cfg.model.get('data_preprocessor') or {}
    if size := preprocessor.get('size'):
        return tuple(size)
    scale = next((step['scale'] for step in test_pipeline(cfg) if step.get('scale') is not None), None)
    if scale is None or len(scale) != 2 or not all(isinstance(value, int) for value in scale):
        raise ValueError('the config names no one size that it tests on: give --shape HEIGHT WIDTH in pixels.')
    width, height = scale
    divisor = preprocessor.get('pad_size_divisor') or 1
    return tuple(-(-value // divisor) * divisor for value in (height, width))
