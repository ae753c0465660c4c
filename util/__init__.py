"""Modules used by the scripts."""

import os

LARGEST_IMAGE = 200_000_000  # pixels: those of the largest phone sensors; decoding takes about 6 bytes for each
# OpenCV's own limit is five times as high, and is what counts where only OpenCV understands an image's header.  It is
# read when cv2 is loaded.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(LARGEST_IMAGE))
