"""Running a whole detector, segmentor or monocular 3D detector on images alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .conditions import autocast

__all__ = ['running_as', 'whole_model_call', 'whole_model_scope']

DETECTOR = (
    "the network of the detector (mode='tensor'): backbone, neck and heads with the selection of proposals, "
    'and without the last NMS and the pasting of masks'
)
DETECTOR_3D = "the network of the 3D detector (mode='tensor'): backbone, neck and heads, without decoding and NMS"
SEGMENTOR = "the prediction of the segmentor (mode='predict'): the network, the resizing of the logits and the argmax"


def whole_model_scope(model: nn.Module) -> str:
    """What is timed of a model, in words: all whose amount does not hang on what the weights detect."""
    return {'mmseg': SEGMENTOR, 'mmdet': DETECTOR, 'mmdet3d': DETECTOR_3D}[_family(model)]


def whole_model_call(model: nn.Module, images: Tensor, dtype: str) -> Callable[[], object]:
    """A call that runs a model on normalised images ``[B, 3, H, W]``, see :func:`whole_model_scope`.

    Raises:
        ValueError: If the model is of none of the families that we know.
    """
    family = _family(model)
    inputs, samples, mode = images, None, 'predict' if family == 'mmseg' else 'tensor'
    if family == 'mmdet3d':
        inputs = {'imgs': images}
    elif family == 'mmdet':
        samples = _detection_samples(images)

    def call() -> object:
        with torch.no_grad(), autocast(images.device, dtype):
            return model(inputs, samples, mode=mode)

    return call


@contextmanager
def running_as(model: nn.Module, child: nn.Module, module: Callable) -> Iterator[None]:
    """Let a model call something else where it calls one of its children, for a while.

    Its submodules, parameters and the keys of its state dict stay as they are.

    Args:
        model: The detector or segmentor.
        child: Its backbone.
        module: The same in another form, see :func:`~sparsevit_mm.cost.modes.in_mode`.
    """
    name = next(name for name, other in model.named_children() if other is child)
    # What a module has under its name in ``__dict__`` comes before its registered children.
    model.__dict__[name] = module
    try:
        yield
    finally:
        del model.__dict__[name]


def _family(model: nn.Module) -> str:
    # A 3D detector of mmdet3d inherits from mmdet's, so the nearest base decides.
    packages = (cls.__module__.split('.')[0] for cls in type(model).__mro__)
    family = next((package for package in packages if package in ('mmseg', 'mmdet', 'mmdet3d')), None)
    if family is None:
        raise ValueError(
            f'{type(model).__name__} is no detector or segmentor of mmdet, mmseg or mmdet3d that could be run whole: '
            f'leave out --whole-model to time its backbone.'
        )
    return family


def _detection_samples(images: Tensor) -> list:
    from mmdet.structures import DetDataSample

    shape = tuple(images.shape[-2:])
    meta = {
        'img_shape': shape,
        'ori_shape': shape,
        'pad_shape': shape,
        'batch_input_shape': shape,
        'scale_factor': (1.0, 1.0),
    }
    return [DetDataSample(metainfo=meta) for _ in range(len(images))]
