"""Modules used by the scripts."""

import os

# OpenCV's own limit is five times as high, and is what counts where only OpenCV understands an image's header.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "200000000")  # as util.images.LARGEST_IMAGE; before cv2 is loaded
