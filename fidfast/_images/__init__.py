"""Images of folders, archives and arrays, one at a time as (height, width, 3) uint8."""

from fidfast._images.choice import note_of_images, uses_images, warn_of_statistics
from fidfast._images.decode import as_rgb
from fidfast._images.describe import describe_images, warn_of_frames, warn_of_range
from fidfast._images.images import BrokenImageError, Images
from fidfast._images.open import holds_images, open_images

__all__ = [
    "BrokenImageError",
    "Images",
    "as_rgb",
    "describe_images",
    "holds_images",
    "note_of_images",
    "open_images",
    "uses_images",
    "warn_of_frames",
    "warn_of_range",
    "warn_of_statistics",
]
