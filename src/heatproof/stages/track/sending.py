"""Outboxes to MLflow: one writer, nothing sent twice, nothing lost."""

import hashlib
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from heatproof.base.outbox import Content, Outbox, Value, redacted
from heatproof.stages.track.stores import address, connect, experiment_id, ui_command, writing

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID_TAG = "heatproof.outbox"
NAME_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 5000
METRICS_AT_ONCE, SETTINGS_AT_ONCE = 1000, 100
ILLEGAL = re.compile(r"[^\w.\-/ :]", re.ASCII)


@dataclass(frozen=True)
class Sent:
    """What became of a delivery: `runs` folder -> run id, `failed` folder -> reason (its outbox is kept and can be sent
    again), `uri` the store without credentials."""

    uri: str
    runs: Mapping[Path, str] = field(default_factory=dict)
    failed: Mapping[Path, str] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """One paragraph for the user: how to look at the runs, and what is still to be sent."""
        lines = []
        if self.runs:
            lines.append(f"MLflow: {ui_command(self.uri) or self.uri}")
        if self.failed:
            reasons = "; ".join(dict.fromkeys(self.failed.values()))
            lines.append(
                f"MLflow: {len(self.failed)} run(s) not sent to {self.uri}: {reasons}. Nothing is lost: the outbox in "
                "each results folder is kept and can be sent again."
            )
        return "\n".join(lines)


def send(
    folders: Sequence[Path],
    *,
    tracking_uri: str | None = None,
    parent: Path | None = None,
    lock_seconds: float = 120,
) -> Sent:
    """What was sent of the outboxes of some results folders, and what was not (a store that is down raises nothing).

    A second call sends only what is new; an outbox that was sent by half is completed. `parent`: the folder of a sweep;
    its run (one per experiment, made here where the folder has no outbox of its own) becomes the parent of all.
    Folders without an outbox are passed over, and a sweep's own folder among them stands for its parent run.
    """
    uri = address(tracking_uri)
    shown = redacted(uri)
    todo = [Path(folder) for folder in folders if Outbox(folder).begun and not any(_jobs(Path(folder)))]
    runs: dict[Path, str] = {}
    failed: dict[Path, str] = {}
    try:
        if todo:
            with writing(uri, lock_seconds), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own use of SQLAlchemy
                client = connect(uri)
                client.search_experiments(max_results=1)
                for folder in todo:
                    try:
                        runs[folder] = _send_one(client, uri, Outbox(folder), parent)
                    except Exception as error:
                        failed[folder] = _reason(error)
                above = [parent, *(Outbox(folder).read().parent for folder in runs)]
                for sweep in dict.fromkeys(Path(path).resolve() for path in above if path is not None):
                    try:
                        _close_parent(client, uri, sweep, list(runs))
                    except Exception as error:
                        failed[sweep] = _reason(error)
    except Timeout:
        failed |= {f: f"another process has held the store for {lock_seconds:.0f} s" for f in todo if f not in runs}
    except Exception as error:
        failed |= {f: _reason(error) for f in todo if f not in runs}
    return Sent(shown, runs, failed)


def noted_as_sent(folder: Path, *, tracking_uri: str | None = None) -> Sent | None:
    """What a delivery of a finished run would say, where its outbox notes that all of it was sent; else None.

    The store is not asked, so MLflow is not imported: a run that was lost with its store is sent anew by `send` alone.
    """
    uri, outbox = address(tracking_uri), Outbox(folder)
    content = outbox.read()
    done = outbox.state().get(redacted(uri)) or {}
    names = [path.relative_to(outbox.results).as_posix() for path, _ in content.artifacts if path.exists()]
    complete = content.status != "RUNNING" and done.get("status") == content.status
    complete = complete and done.get("metrics") == len(content.values) and set(names) <= set(done.get("artifacts", ()))
    return Sent(redacted(uri), {folder: str(done["run"])}) if complete else None


def _reason(error: Exception) -> str:
    if "Max retries exceeded" in str(error):
        return "the server does not answer"
    first = (redacted(str(error)).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}"


def _send_one(client: "MlflowClient", uri: str, outbox: Outbox, parent: Path | None) -> str:
    with FileLock(outbox.folder / "sending", timeout=60):
        content = outbox.read()
        sweep = parent or content.parent
        above = _parent_run(client, uri, Path(sweep), content) if sweep is not None else None
        return _deliver(client, uri, outbox, content, above)


def _deliver(client: "MlflowClient", uri: str, outbox: Outbox, content: Content, above: str | None) -> str:
    """The run's id, after everything that the store does not have yet was sent, noting each step."""
    everything = outbox.state()
    key = redacted(uri)
    experiment = experiment_id(client, uri, content.experiment)
    done: dict[str, Any] = everything.get(key, {})
    if not (done and _exists(client, done["run"])):
        run = (
            _find(client, experiment, content.id)
            or client.create_run(
                experiment,
                start_time=content.start_time,
                run_name=content.run_name,
                tags={ID_TAG: content.id} | ({"mlflow.parentRunId": above} if above else {}),
            ).info.run_id
        )
        done = {"run": run, "settings": None, "metrics": 0, "artifacts": [], "status": "RUNNING"}
    run_id = str(done["run"])

    def note() -> None:
        everything[key] = done
        outbox.note(everything)

    note()
    if client.get_run(run_id).info.lifecycle_stage == "deleted":
        return run_id  # deleted by the user: their wish
    names = legal_names([value.name for value in content.values])
    tags = _tags(content, above)
    settings = _digest(content.params, tags)
    if done["settings"] != settings:
        _send_settings(client, run_id, content.params, tags)
        done["settings"] = settings
        note()
    while done["metrics"] < len(content.values):
        some = content.values[done["metrics"] : done["metrics"] + METRICS_AT_ONCE]
        _send_values(client, run_id, some, names)
        done["metrics"] += len(some)
        note()
    for path, place in content.artifacts:
        name = path.relative_to(outbox.results).as_posix()
        # What a run that is under way has written may still grow, so it is noted as sent only once the run has ended.
        if name not in done["artifacts"] and path.exists():
            if path.is_dir():
                client.log_artifacts(run_id, str(path), place)
            else:
                client.log_artifact(run_id, str(path), place)
            if content.status != "RUNNING":
                done["artifacts"].append(name)
                note()
    if content.status != done["status"]:
        client.set_terminated(run_id, content.status, content.end_time)
        done["status"] = content.status
        note()
    return run_id


def _exists(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _find(client: "MlflowClient", experiment: str, outbox_id: str) -> str | None:
    """A run that an earlier delivery made and had no time to note."""
    found = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{outbox_id}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _tags(content: Content, above: str | None) -> dict[str, str]:
    """All tags of a run. MLflow would store infinity as 1.8e308, so infinite numbers stand in a tag."""
    infinite = ", ".join(f"{value.name} = {value.value}" for value in content.values if math.isinf(value.value))
    nested = {"mlflow.parentRunId": above} if above else {}
    return dict(content.tags) | nested | ({"infinite": infinite} if infinite else {})


def _send_settings(client: "MlflowClient", run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Param, RunTag

    names = legal_names(params)
    entities = [Param(names[key], shortened(value, PARAM_LENGTH)) for key, value in params.items()]
    for some in _chunks(entities, SETTINGS_AT_ONCE):
        client.log_batch(run_id, params=some)
    names = legal_names(tags)
    labels = [RunTag(names[key], shortened(value, TAG_LENGTH)) for key, value in tags.items()]
    for some in _chunks(labels, SETTINGS_AT_ONCE):
        client.log_batch(run_id, tags=some)


def _send_values(client: "MlflowClient", run_id: str, values: Sequence[Value], names: Mapping[str, str]) -> None:
    """Send numbers with the moments at which they were written: sending them again changes nothing."""
    from mlflow.entities import Metric

    batch = [Metric(names[v.name], v.value, v.time, v.step or 0) for v in values if not math.isinf(v.value)]
    if batch:
        client.log_batch(run_id, metrics=batch)


def _parent_run(client: "MlflowClient", uri: str, sweep: Path, child: Content) -> str:
    """The run of a sweep in the experiment of a child: MLflow shows nesting only inside one experiment."""
    outbox = Outbox(sweep)
    outbox.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(outbox.folder / "sending", timeout=60):
        key = f"{redacted(uri)} {child.experiment}"
        everything = outbox.state()
        known = everything.get(key)
        if known and _exists(client, known):
            return str(known)
        identity = everything.setdefault("id", child.id)
        experiment = experiment_id(client, uri, child.experiment)
        outbox.note(everything)
        sweep_id = f"sweep-{identity}"
        content = outbox.read() if outbox.begun else None
        run = (
            _find(client, experiment, sweep_id)
            or client.create_run(
                experiment,
                start_time=content.start_time if content else child.start_time,
                run_name=content.run_name if content else f"sweep {sweep.name}",
                tags={ID_TAG: sweep_id, "sweep": "true"},
            ).info.run_id
        )
        everything[key] = run
        outbox.note(everything)
        return str(run)


def _close_parent(client: "MlflowClient", uri: str, sweep: Path, folders: Sequence[Path]) -> None:
    """Give the runs of a sweep their params and their true end: that of its outbox, else that of its children."""
    outbox = Outbox(sweep)
    content = outbox.read() if outbox.begun else None
    everything = outbox.state()
    together = dict.fromkeys(folder.resolve() for folder in [*folders, *_jobs(sweep)])
    children = [Outbox(folder).read() for folder in together]
    for experiment in {child.experiment for child in children}:
        run_id = everything.get(f"{redacted(uri)} {experiment}")
        if run_id is None or client.get_run(run_id).info.lifecycle_stage == "deleted":
            continue
        if content is not None:
            _send_settings(client, run_id, content.params, _tags(content, None))
            if content.values:
                _send_values(client, run_id, content.values, legal_names([v.name for v in content.values]))
            status, end = content.status, content.end_time
        else:
            mine = [child for child in children if child.experiment == experiment]
            statuses = {child.status for child in mine}
            status = next((s for s in ("RUNNING", "KILLED", "FAILED") if s in statuses), "FINISHED")
            end = max((child.end_time for child in mine if child.end_time), default=None)
        if status == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, status, end)


def _jobs(sweep: Path) -> Iterator[Path]:
    """The folders in a sweep's folder whose runs have begun."""
    return (path.parents[1] for path in sweep.glob("*/outbox/run.json"))


def legal_names(names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Name -> a name that MLflow takes: other characters become `_`, two names never become one.

    >>> list(legal_names(["recall_a=b", "recall_a@b", "gradcam:robustcam6.mean/faith"]).values())
    ['recall_a_b', 'recall_a_b-aeb7', 'gradcam:robustcam6.mean/faith']
    """
    wanted = list(dict.fromkeys(names))
    taken = {name for name in wanted if _legal(name) == name}
    result = {}
    for name in wanted:
        legal = _legal(name)
        if legal != name:
            if legal in taken:
                legal = f"{legal[: NAME_LENGTH - 5]}-{_digest(name)[:4]}"
            taken.add(legal)
        result[name] = legal
    return result


def _legal(name: str) -> str:
    # MLflow reads names as paths: no empty, `.` or `..` part, no slash at either end.
    parts = [part if part.strip(". ") else "_" for part in ILLEGAL.sub("_", name).split("/")]
    return shortened("/".join(parts), NAME_LENGTH)


def shortened(text: str, length: int) -> str:
    """The text, or its beginning and a hash of the whole where it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length - 20]}...-{_digest(text)}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
