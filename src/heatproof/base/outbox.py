"""What a run wants to have recorded, kept as plain files until a tracking server has taken it.

A run writes to `outbox/` in its results folder and to nothing else, so a server that is down, a locked database or a
crash lose nothing. Files: `run.json` (experiment, name, params, tags, start), `metrics.jsonl`, `artifacts.jsonl`,
`end.json` (status, end) and `traceback.txt`; `sent.json` belongs to the sender. Times are milliseconds since 1970.
"""

import json
import os
import re
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

STATUSES = ("FINISHED", "FAILED", "KILLED")
ALWAYS = ("config.yaml", "run.log")
SECRET_KEY = re.compile(r"(?i)(?:^|[._-])(?:password|passwd|secret|token|api_?key|credentials?)$")
SECRET_IN_URL = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def redacted(text: str) -> str:
    """The text without the user and password of any address in it.

    >>> redacted("https://me:secret@host.org/mlflow")
    'https://***@host.org/mlflow'
    """
    return SECRET_IN_URL.sub("***", text)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b.c` -> text, values of secret-looking keys hidden; lists as JSON.

    >>> flat({"train": {"lr": 0.001}, "classes": ["a", "b"], "n": None})
    {'train.lr': '0.001', 'classes': '["a", "b"]', 'n': 'null'}
    """
    result: dict[str, str] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{name}.")
        elif SECRET_KEY.search(name) and value is not None:
            result[name] = "***"
        else:
            result[name] = redacted(value if isinstance(value, str) else json.dumps(value, default=str))
    return result


@dataclass(frozen=True)
class Value:
    """One number to record; `step` is None where it is no series."""

    name: str
    value: float
    step: int | None
    time: int


@dataclass(frozen=True)
class Content:
    """Everything an outbox holds at one moment; `status` is RUNNING while its run lives and has not finished."""

    id: str
    experiment: str
    run_name: str
    start_time: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    parent: Path | None
    values: tuple[Value, ...]
    artifacts: tuple[tuple[Path, str | None], ...]
    status: str
    end_time: int | None


class Outbox:
    """The outbox of one results folder."""

    def __init__(self, folder: Path | str) -> None:
        self.results = Path(folder)
        self.folder = self.results / "outbox"
        self._alive: FileLock | None = None

    @property
    def begun(self) -> bool:
        """Whether a run has been begun here."""
        return (self.folder / "run.json").is_file()

    def begin(
        self,
        experiment: str,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        start_time: int | None = None,
        parent: Path | None = None,
    ) -> None:
        """Say what run this is. A second call adds params and tags and keeps id, start and parent of the first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self._json("run.json") if self.begun else {}
        parent_text = os.path.relpath(parent, self.results) if parent is not None else None
        content = {
            "id": known.get("id", uuid.uuid4().hex),
            "experiment": experiment,
            "run_name": run_name,
            "start_time": known.get("start_time", start_time or now()),
            "params": known.get("params", {}) | flat(params),
            "tags": known.get("tags", {}) | flat(tags),
            "parent": known.get("parent") or parent_text,
        }
        self._write("run.json", content)
        if self._alive is None:
            # Held until the run ends and let go by the system when its process dies: how a sender tells a run that is
            # under way from one that was killed.
            lock = FileLock(self.folder / "alive")
            try:
                lock.acquire(timeout=0)
                self._alive = lock
            except Timeout:
                pass

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record some numbers, all at one step. NaN and infinity are kept as such."""
        moment = now()
        # JSON has no NaN, so every number goes as text that float() reads back exactly.
        lines = [{"name": n, "value": repr(float(v)), "step": step, "time": moment} for n, v in values.items()]
        self._append("metrics.jsonl", lines)

    def artifact(self, path: str | Path, artifact_path: str | None = None) -> None:
        """Record a file or folder of the results folder (relative path), to lie under `artifact_path`."""
        self._append("artifacts.jsonl", [{"path": Path(path).as_posix(), "artifact_path": artifact_path}])

    def finish(self, status: str, end_time: int | None = None, error_text: str | None = None) -> None:
        """Say how the run ended; `error_text` (a traceback) becomes an artifact. The first call counts.

        A clock that went back makes no run that ended before its start.
        """
        assert status in STATUSES, status
        try:
            if not (self.folder / "end.json").exists():
                if error_text:
                    self._replace("traceback.txt", redacted(error_text))
                start = self._json("run.json")["start_time"] if self.begun else 0
                self._write("end.json", {"status": status, "end_time": end_time or max(now(), start)})
        finally:
            if self._alive is not None:
                self._alive.release()
                self._alive = None

    def read(self) -> Content:
        """What is in the outbox now; a line that was cut off by a crash is left out."""
        run = self._json("run.json")
        values = tuple(
            Value(line["name"], float(line["value"]), line["step"], line["time"])
            for line in self._lines("metrics.jsonl")
        )
        artifacts = dict.fromkeys(
            (self.results / line["path"], line["artifact_path"]) for line in self._lines("artifacts.jsonl")
        )
        if (self.folder / "traceback.txt").is_file():
            artifacts[(self.folder / "traceback.txt", None)] = None
        if (self.folder / "end.json").is_file():
            end = self._json("end.json")
            status, end_time = end["status"], end["end_time"]
        elif self._lives():
            status, end_time = "RUNNING", None
        else:
            status, end_time = "KILLED", self._last_sign()
        return Content(
            id=run["id"],
            experiment=run["experiment"],
            run_name=run["run_name"],
            start_time=run["start_time"],
            params=run["params"],
            tags=run["tags"],
            parent=(self.results / run["parent"]).resolve() if run["parent"] else None,
            values=values,
            artifacts=tuple(artifacts),
            status=status,
            end_time=end_time,
        )

    def state(self) -> dict[str, Any]:
        """What the sender has noted, by address of the store."""
        return self._json("sent.json") if (self.folder / "sent.json").is_file() else {}

    def note(self, state: Mapping[str, Any]) -> None:
        """Keep what the sender has done so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("sent.json", state)

    def _lives(self) -> bool:
        try:
            with FileLock(self.folder / "alive", timeout=0):
                return False
        except Timeout:
            return True

    def _last_sign(self) -> int:
        """When something was last written: the best guess of when a killed run ended."""
        files = [self.folder / name for name in ("run.json", "metrics.jsonl", "artifacts.jsonl")]
        return max(path.stat().st_mtime_ns for path in files if path.is_file()) // 1_000_000

    def _json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return content

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        self._replace(name, json.dumps(content, indent=1, ensure_ascii=False))

    def _replace(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def _append(self, name: str, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        path = self.folder / name
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        # After a line that was cut off, the next one starts afresh.
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            text = "\n" + text
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


@contextmanager
def recorded(
    folder: Path,
    *,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    parent: Path | None = None,
) -> Iterator[Outbox]:
    """The outbox of a run for as long as the block runs: FINISHED at its end, FAILED with the traceback after an
    exception, KILLED after an interruption; exceptions pass through. Config and log go along in any case."""
    outbox = Outbox(folder)
    outbox.begin(experiment, run_name, params, tags, parent=parent)
    for name in ALWAYS:
        outbox.artifact(name)
    try:
        yield outbox
    except KeyboardInterrupt:
        with suppress(OSError):  # a disk that is full hides neither what happened nor why
            outbox.finish("KILLED", error_text="interrupted by the user")
        raise
    except BaseException:
        with suppress(OSError):
            outbox.finish("FAILED", error_text=traceback.format_exc())
        raise
    outbox.finish("FINISHED")
