"""Cases on Dask workers, on this machine or on many. Needs ``medfuse[cluster]``."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medfuse.batch.pool import Advance, Ended, keep_log
from medfuse.batch.remote import run_apart
from medfuse.batch.shipping import Parcel, pack, run_parcel, unpack_result
from medfuse.batch.worker import Job, failure
from medfuse.errors import InputError, MedfuseError, UsageError

try:
    import cryptography  # noqa: F401  distributed makes certificates with it
    import dask
    import distributed
except ImportError as error:
    raise UsageError(
        "E_MISSING_EXTRA",
        what="Cannot use a cluster",
        cause="Dask or cryptography is not installed",
        remedy="Install it with: pip install 'medfuse[cluster]'",
    ) from error

Answer = tuple[dict[str, Any], bytes]  # fields of the result; of a parcel, the files

POLL_S = 0.2
CONNECT_S = 20.0
STOP_POLL_S = 2.0
#: So long a batch waits for a scheduler that has gone.
RECONNECT_S = 300.0
#: Cases under way for each worker: one runs, one waits, so that no worker is ever idle.
AHEAD = 2
#: So often a case is handed in again after the scheduler forgot it.
MAX_SUBMISSIONS = 3
#: What one SLURM job asks for unless ~/.config/dask/jobqueue.yaml says more.
SLURM_JOB: dict[str, Any] = {"cores": 1, "job_cpu": 2, "processes": 1, "memory": "4GB"}
#: Without a dashboard Dask still tells everybody on the machine, by HTTP, what it is doing.
NO_PAGES: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
#: The port stays, empty: not the one at which a person's own Dask may be.
NO_DASHBOARD: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}


@dataclass(frozen=True)
class Cluster:
    """Where the cases of a batch run.

    Attributes
    ----------
    scheduler : str or None
        Address of a running Dask scheduler, e.g. ``tls://10.0.0.5:8786``. Certificates come from
        the configuration of Dask.
    kind : {"local", "slurm"} or None
        Start workers for this batch alone: processes here, or SLURM jobs as configured for
        dask-jobqueue. Either this or `scheduler`. They accept nobody without the certificate made
        for this batch.
    workers : int
        To start; with `scheduler` those that are there count.
    ship : bool
        Inputs and results travel over the network; else all machines see the same files under the
        same paths.
    """

    scheduler: str | None = None
    kind: Literal["local", "slurm"] | None = None
    workers: int = 2
    ship: bool = False

    @contextlib.contextmanager
    def pool(self, runner: str, timeout_s: float | None, logs: Path) -> Iterator[ClusterPool]:
        """Connect, or start the workers; end what was started.

        Parameters
        ----------
        runner : str
            ``module:class``.
        timeout_s : float, optional
            For each case.
        logs : Path
            Folder for what failed cases print.

        Raises
        ------
        InputError
            ``E_CLUSTER``: nobody answers at that address, or TLS has no certificate.
        """
        quiet = {"distributed.admin.large-graph-warning-threshold": "4GiB"}
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(quiet))
            if self.scheduler:
                address, security = self.scheduler, distributed.Security()
            else:
                cluster = stack.enter_context(self._start(stack))
                address, security = cluster.scheduler_address, cluster.security
            pool = ClusterPool(address, security, runner, timeout_s, logs, ship=self.ship)
            stack.callback(pool.close)
            yield pool

    def _start(self, stack: contextlib.ExitStack) -> distributed.deploy.cluster.Cluster:
        """Start workers, and keep until the end of the batch what they need."""
        stack.enter_context(dask.config.set(NO_PAGES))
        if self.kind == "slurm":
            return self._start_slurm(stack)
        return distributed.LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            scheduler_kwargs=NO_DASHBOARD,
            security=True,
        )

    def _start_slurm(self, stack: contextlib.ExitStack) -> distributed.deploy.cluster.Cluster:
        interrupt = signal.getsignal(signal.SIGINT)
        from dask_jobqueue import SLURMCluster

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)  # which that module takes for itself

        stated = dask.config.get("jobqueue.slurm")  # ~/.config/dask/jobqueue.yaml goes before
        wanted = {k: v for k, v in SLURM_JOB.items() if not dask.config.get(k, None, stated)}
        shared = dask.config.get("shared-temp-directory", None, stated) or "~"
        room = tempfile.TemporaryDirectory(
            prefix=".medfuse-", dir=Path(os.path.expandvars(shared)).expanduser()
        )
        cluster = SLURMCluster(
            security=_write_certificate(Path(stack.enter_context(room))),
            scheduler_options={**NO_DASHBOARD, **(stated.get("scheduler-options") or {})},
            worker_extra_args=["--no-dashboard", *(stated.get("worker-extra-args") or [])],
            **wanted,
        )
        cluster.scale(self.workers)
        return cluster


def _write_certificate(room: Path) -> distributed.Security:
    """Make a certificate for one batch; jobs read it in this folder, which one user enters."""
    made = distributed.Security.temporary()
    key, certificate = room / "dask.key", room / "dask.crt"
    key.write_text(made.tls_scheduler_key, "utf-8")
    certificate.write_text(made.tls_scheduler_cert, "utf-8")
    roles = ("scheduler", "worker", "client")
    files = {f"tls_{role}_key": str(key) for role in roles}
    files |= {f"tls_{role}_cert": str(certificate) for role in roles}
    return distributed.Security(tls_ca_file=str(certificate), require_encryption=True, **files)


def connect(
    address: str, security: distributed.Security, *, within_s: float = CONNECT_S
) -> distributed.Client:
    """Connect to a scheduler, trying again until it answers.

    Raises
    ------
    InputError
        ``E_CLUSTER``: it did not answer in that time, or TLS has no certificate.
    """
    _check_certificate(address, security)
    deadline = time.monotonic() + within_s
    while True:
        try:
            return distributed.Client(
                address, security=security, timeout=CONNECT_S / 2, set_as_default=False
            )
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            if time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            raise InputError(
                "E_CLUSTER",
                what="Cannot reach the Dask scheduler",
                where=address,
                cause=str(error).splitlines()[0] or type(error).__name__,
                remedy="Start it with 'dask scheduler' and give the address that it prints",
            ) from error


def _check_certificate(address: str, security: distributed.Security) -> None:
    """Look for what TLS needs before anybody is called."""
    if not address.startswith("tls://"):
        return
    cause = "the configuration of Dask names no certificate"
    try:
        if security.get_connection_args("client")["ssl_context"] is not None:
            return
    except (OSError, ValueError) as error:
        cause = f"the certificate cannot be read ({error})"
    raise InputError(
        "E_CLUSTER",
        what="Cannot reach the Dask scheduler",
        where=address,
        cause=cause,
        remedy="Set distributed.comm.tls.ca-file, client.cert and client.key of Dask "
        "(docs/studies.md, Dask)",
    )


@dataclass
class _Sent:
    job: Job
    future: distributed.Future[Answer]
    submissions: int


class ClusterPool:
    """Hands cases to Dask; the loss of a worker or of the scheduler costs time, not cases.

    A case may be done twice then. Results appear by one rename, so the copies do not mix.
    """

    def __init__(
        self,
        address: str,
        security: distributed.Security,
        runner: str,
        timeout_s: float | None,
        logs: Path,
        *,
        ship: bool,
    ) -> None:
        self._address, self._security = address, security
        self._runner, self._timeout_s = runner, timeout_s
        self._logs, self._ship = logs, ship
        self._sent: list[_Sent] = []
        self._open(CONNECT_S)

    def _open(self, within_s: float) -> None:
        self._client = connect(self._address, self._security, within_s=within_s)
        self._stop = distributed.Event(f"medfuse-{uuid.uuid4().hex}", client=self._client)

    def close(self) -> None:
        """Leave the cluster."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self._client.close()

    def has_room(self, job: Job) -> bool:
        """Whether the workers have less than two cases each."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return len(self._sent) < AHEAD * max(1, len(workers))

    def start(self, job: Job) -> None:
        """Hand in a case."""
        self._sent.append(_Sent(job, self._submit(job), 1))

    def is_busy(self) -> bool:
        """Whether a case is under way."""
        return bool(self._sent)

    def wait(self) -> Iterator[Advance | Ended]:
        """Wait a moment; tell the cases that ended."""
        time.sleep(POLL_S)
        if self._client.status == "closed":
            yield from self._again()
        for sent in list(self._sent):
            status = sent.future.status
            if status == "pending":
                continue
            self._sent.remove(sent)
            if status in ("cancelled", "lost") and sent.submissions < MAX_SUBMISSIONS:
                again = _Sent(sent.job, self._submit(sent.job), sent.submissions + 1)
                self._sent.append(again)
            else:
                yield Ended(sent.job, self._fields(sent))

    def _again(self) -> Iterator[Ended]:
        """Look for the scheduler at its old address and hand everything in once more."""
        sent, self._sent = self._sent, []
        try:
            self._open(RECONNECT_S)
        except MedfuseError as error:
            for lost in sent:
                fields = {"case": lost.job.case, "status": "failed", "code": error.code}
                yield Ended(lost.job, {**fields, "message": str(error)})
            return
        for lost in sent:
            self._sent.append(_Sent(lost.job, self._submit(lost.job), lost.submissions))

    def drop(self) -> Iterator[Job | Ended]:
        """Tell the workers to end what they do for this batch."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self._stop.set()
            self._client.cancel([sent.future for sent in self._sent])
        yield from (sent.job for sent in self._sent)
        self._sent.clear()

    def _submit(self, job: Job) -> distributed.Future[Answer]:
        try:
            cargo: Job | Parcel = pack(job) if self._ship else job
        except OSError:
            cargo = job  # the case itself will say which file cannot be read
        return self._client.submit(
            run_on_worker, cargo, self._runner, self._timeout_s, self._stop.name,
            key=f"{job.case}-{uuid.uuid4().hex}", pure=False,
        )  # fmt: skip

    def _fields(self, sent: _Sent) -> dict[str, Any]:
        """Fields of the result of a case that ended in whatever way."""
        case = sent.job.case
        try:
            fields, content = sent.future.result(timeout=CONNECT_S)
            if content:
                unpack_result(sent.job, content)
        except MedfuseError as error:
            return {"case": case, "status": "failed", "code": error.code, "message": str(error)}
        except distributed.KilledWorker:
            remedy = "Give the workers more memory, or run the case alone"
            return failure(case, "E_KILLED", "several workers were lost while at it", remedy)
        except Exception as error:  # the boundary of a case
            cause = f"the cluster lost it ({type(error).__name__})"
            return failure(case, "E_CLUSTER", cause, "Look at the logs of the Dask scheduler")
        log = fields.pop("log", "")
        keep_log(self._logs / f"{case}.log", log if fields["status"] == "failed" else "")
        return fields


def run_on_worker(cargo: Job | Parcel, runner: str, timeout_s: float | None, stop: str) -> Answer:
    """Run in a Dask worker: fields of the result and, of a parcel, the files."""
    event = distributed.Event(stop)
    asked = time.monotonic()

    def is_dropped() -> bool:
        nonlocal asked
        if time.monotonic() - asked < STOP_POLL_S:
            return False
        asked = time.monotonic()
        return bool(event.is_set())

    options: dict[str, Any] = {"runner": runner, "timeout_s": timeout_s, "is_dropped": is_dropped}
    if isinstance(cargo, Parcel):
        return run_parcel(cargo, **options)
    return run_apart(cargo, **options), b""
