"""Pictures of where a sparse backbone computes."""

from .contact_sheet import MOST_ROWS, SheetRow, check_rows, draw_contact_sheet, make_contact_sheet
from .differences import MapChange, ObjectChange, compare_maps, compare_predictions, match_objects
from .draw import SelectionPictures, draw_heat_map, draw_overview, draw_selection, draw_site
from .draw_change import draw_change
from .frames import HEAT, FrameMaker, make_video
from .inputs import ImageReader, NetworkInput, UnreadableImage, decode_image, network_picture
from .inspection import Inspection, Inspector, macs_share
from .outputs import check_writable, save_picture
from .predictions import PredictionPainter, class_colours, stock_visualizer
from .recording import InferenceRecord, record_inference
from .results import ResultPainter
from .samples import Objects, class_map, has_truth, objects_of
from .site_map import SiteMap, kept_share, site_maps
from .video import VideoFile, check_video

__all__ = [
    'HEAT',
    'MOST_ROWS',
    'FrameMaker',
    'ImageReader',
    'InferenceRecord',
    'Inspection',
    'Inspector',
    'MapChange',
    'NetworkInput',
    'ObjectChange',
    'Objects',
    'PredictionPainter',
    'ResultPainter',
    'SelectionPictures',
    'SheetRow',
    'SiteMap',
    'UnreadableImage',
    'VideoFile',
    'check_rows',
    'check_video',
    'check_writable',
    'class_colours',
    'class_map',
    'compare_maps',
    'compare_predictions',
    'decode_image',
    'draw_change',
    'draw_contact_sheet',
    'draw_heat_map',
    'draw_overview',
    'draw_selection',
    'draw_site',
    'has_truth',
    'kept_share',
    'macs_share',
    'make_contact_sheet',
    'make_video',
    'match_objects',
    'network_picture',
    'objects_of',
    'record_inference',
    'save_picture',
    'site_maps',
    'stock_visualizer',
]
