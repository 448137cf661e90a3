"""Pictures of where a sparse backbone computes."""

from .draw import SelectionPictures, draw_heat_map, draw_overview, draw_selection, draw_site
from .inputs import ImageReader, NetworkInput, list_images
from .site_map import SiteMap, site_maps

__all__ = [
    'ImageReader',
    'NetworkInput',
    'SelectionPictures',
    'SiteMap',
    'draw_heat_map',
    'draw_overview',
    'draw_selection',
    'draw_site',
    'list_images',
    'site_maps',
]
