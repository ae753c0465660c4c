"""What the scripts use, by wing: see CONTRIBUTING.md."""

import os
import sys

# A notebook's `!` commands inherit the name of its plotting backend, which their environment need not have: then the
# import of matplotlib fails, and with it that of Keras.  Nothing here opens a window.
if "IPython" not in sys.modules:
    os.environ.pop("MPLBACKEND", None)
