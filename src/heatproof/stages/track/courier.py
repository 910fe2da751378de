"""A delivery that is made ready while its run still works.

To import MLflow and to open a store takes longer than all that a run has to say, and a report leaves a processor idle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from heatproof.stages.track.sending import Sent, send
from heatproof.stages.track.stores import address, connect, database, writing

CHILD = "from heatproof.stages.track.courier import serve; serve()"


class Courier:
    """`send` by a process of its own that `start` makes ready; without one, and where it dies, this process sends.

    It ends with its standard input, so it outlives no run, however that ends. What it has sent before is noted in the
    outboxes, so that nothing is sent twice.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Make it ready; not on a single processor, where it would only take the run's time."""
        if self._process is not None or (os.cpu_count() or 1) < 2:
            return
        with suppress(OSError):
            # A session of its own: Ctrl-C is for the run, which says what becomes of its delivery.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, start_new_session=True,
            )  # fmt: skip

    def send(self, folders: Sequence[Path]) -> Sent:
        """What `send` says of some results folders."""
        process, self._process = self._process, None
        uri = address()
        if process is not None:
            paths = {str(folder.absolute()): folder for folder in folders}
            try:
                answer, _ = process.communicate(json.dumps({"folders": list(paths), "uri": uri}) + "\n")
            except BaseException:
                process.kill()
                process.communicate()
                raise
            with suppress(ValueError):
                said = json.loads(answer)
                runs, failed = ({paths[path]: text for path, text in said[part].items()} for part in ("runs", "failed"))
                return Sent(said["uri"], runs, failed)
        return send(folders, tracking_uri=uri)


def serve() -> NoReturn:
    """Get ready, wait for one order, carry it out and say what became of it."""
    # What MLflow prints is no answer.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        with suppress(Exception), warnings.catch_warnings():  # what is wrong is said when there is something to send
            warnings.simplefilter("ignore")
            _ready(address())
        line = sys.stdin.readline()
        if line:
            order = json.loads(line)
            sent = send([Path(folder) for folder in order["folders"]], tracking_uri=order["uri"])
            runs, failed = ({str(path): text for path, text in part.items()} for part in (sent.runs, sent.failed))
            json.dump({"uri": sent.uri, "runs": runs, "failed": failed}, answers)
    # All is written and noted: taking MLflow apart would keep the command waiting for as long as the delivery itself.
    os._exit(0)


def _ready(uri: str) -> None:
    if database(uri) is None:
        connect(uri)
        return
    with writing(uri, seconds=30):
        connect(uri).search_experiments(max_results=1)
