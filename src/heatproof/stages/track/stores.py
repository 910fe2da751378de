"""Where tracking data goes: the address of the store, its one-time creation, its experiments."""

import logging
import os
import shlex
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
# MLflow's word for runs with metrics, in contrast to traces of language models.
KIND = {"mlflow.experimentKind": "custom_model_development"}


def address(tracking_uri: str | None = None, *, cwd: Path | None = None) -> str:
    """The store that runs go to: the argument, else `MLFLOW_TRACKING_URI`, else SQLite in `mlruns` of the working
    directory."""
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"{SQLITE}{(cwd or Path.cwd()).absolute() / 'mlruns' / 'mlflow.db'}"


def ui_command(uri: str) -> str | None:
    """The command that opens the MLflow UI on a SQLite store; None for a server, which has its own page."""
    return f"{_mlflow()} ui --backend-store-uri '{uri}'" if uri.startswith(SQLITE) else None


def _mlflow() -> str:
    """How to call the command `mlflow` of this environment from the working directory."""
    own = Path(sys.executable).with_name("mlflow")
    found = shutil.which("mlflow")
    if not own.exists() or (found is not None and Path(found).samefile(own)):
        return "mlflow"
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))


def database(uri: str) -> Path | None:
    """The file of a SQLite store, or None."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def writing(uri: str, seconds: float) -> AbstractContextManager[object]:
    """The right to write to a store: a file lock beside a SQLite file (raises `filelock.Timeout`); a server needs none.

    Two processes that make one SQLite store at the same time destroy it, so its creation happens in here, too.
    """
    file = database(uri)
    if file is None:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock", timeout=seconds)


def connect(uri: str) -> "MlflowClient":
    """A client of the store, quiet, without telemetry, and not patient with a server that is down."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    file = database(uri)
    if file is not None and not file.exists():
        _make_database(file)
    return MlflowClient(tracking_uri=uri)


def _make_database(file: Path) -> None:
    """Make a SQLite store under another name, then rename it: MLflow can do nothing with one that a kill left by
    half."""
    from mlflow import MlflowClient

    for stale in file.parent.glob(f".{file.name}.making-*"):
        stale.unlink()
    new = file.with_name(f".{file.name}.making-{os.getpid()}")
    MlflowClient(tracking_uri=f"{SQLITE}{new}").search_experiments(max_results=1)
    new.replace(file)


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """The id of an experiment, made where it is missing (artifacts of a SQLite store beside it, at an absolute
    path)."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        file = database(uri)
        place = (file.parent / "artifacts").as_uri() if file is not None else None
        try:
            return str(client.create_experiment(name, artifact_location=place, tags=KIND))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # somebody else on the same server was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise RuntimeError(
            f"the experiment {name!r} was deleted in MLflow: restore it "
            f"(mlflow experiments restore --experiment-id {found.experiment_id}) or choose another tracking.experiment"
        )
    return str(found.experiment_id)
