"""What an interactive page shows of a sparse model: what it computes of a picture, predicts and costs.

Everything but the page itself works without Gradio; ``sparsevit_mm.demo.page`` needs it.
"""

from .cameras import Camera, Cameras
from .examples import example_pictures
from .latency import DemoLatency
from .session import Demo, DemoResult, load_demo
from .settings import parse_settings, settle

__all__ = [
    'Camera',
    'Cameras',
    'Demo',
    'DemoLatency',
    'DemoResult',
    'example_pictures',
    'load_demo',
    'parse_settings',
    'settle',
]
