"""Do something at the nth time that this process opens for writing, makes, renames or removes a file below a folder.

As a program: run the training script and kill it there.

python file_events.py FOLDER N SCRIPT [OPTION...]     N = 0: never, and print what there was
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "shutil.rmtree")


class FileEvents:
    """Counts, from `start` on, and calls `act` at event number `at`.  An audit hook cannot be removed: make one."""

    def __init__(self) -> None:
        self.folder, self.at, self.seen, self.act = "", 0, list[str](), lambda: None
        sys.addaudithook(self._hook)

    def start(self, folder: object, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.folder, self.at, self.seen, self.act = f"{folder}{os.sep}", at, [], act

    def stop(self) -> None:
        self.folder = ""

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.folder or event not in EVENTS or self.folder not in str(arguments[0]):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        self.seen.append(f"{event} {os.path.basename(str(arguments[0]))}")
        if len(self.seen) == self.at:
            self.act()


if __name__ == "__main__":
    folder, at, script, *arguments = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(script))
    sys.argv = [script, *arguments]
    events = FileEvents()
    events.start(folder, int(at), lambda: os.kill(os.getpid(), signal.SIGKILL))
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        print("\n".join(f"event: {event}" for event in events.seen), flush=True)
