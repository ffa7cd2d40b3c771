"""Batches on Dask workers: the same result folders, whatever is lost on the way."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medfuse.batch import BatchSummary, run_batch
from medfuse.errors import InputError
from medfuse.results.folder import is_complete
from medfuse.settings import CaseSettings
from tests._helpers.batch_study import half_built, make_study, small_work, when

distributed = pytest.importorskip("distributed", reason="Dask (medfuse[cluster]) is not installed")
dask = pytest.importorskip("dask")
cluster_module = importlib.import_module("medfuse.batch.cluster")

HERE = Path(__file__).resolve().parent
SETTINGS = CaseSettings(method="mean")
ADDRESS = "tcp://127.0.0.1:{}"
#: Tells what a person with no certificate of the cluster reads there; another user where possible.
STRANGER = """
import os, sys
from distributed import Client, Security
own = Security.temporary()
if hasattr(os, "getuid") and os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for protocol in ("tcp", "tls"):
    address = protocol + "://" + sys.argv[1].partition("://")[2]
    try:
        with Client(address, security=own if protocol == "tls" else None, timeout=3) as client:
            print("ran", client.submit(os.getpid, pure=False).result(timeout=20), flush=True)
            os._exit(0)
    except Exception as error:
        print(protocol, "refused", type(error).__name__, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield small_work(patch)


@pytest.fixture(scope="module")
def workers(runner: Any) -> Iterator[Any]:
    """Two worker processes on this machine."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster


def codes(summary: BatchSummary) -> dict[str, str | None]:
    return {result.case: result.code for result in summary.results}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_cases_end_alone_and_results_equal_those_of_one_machine(
    tmp_path: Path, runner: Any, workers: Any
) -> None:
    study = make_study(tmp_path / "in", "fine", "exits", "refused")
    cluster = cluster_module.Cluster(workers.scheduler_address)
    far = run_batch(study, tmp_path / "far", SETTINGS, cluster=cluster, runner=runner)
    near = run_batch(study, tmp_path / "near", SETTINGS, runner=runner)
    assert codes(far) == {"fine": None, "exits": "E_CRASHED", "refused": "E_EMPTY_FILE"}
    assert codes(far) == codes(near)
    assert far.exit_code == near.exit_code == 8
    assert contents(tmp_path / "far/fine") == contents(tmp_path / "near/fine")
    log = (tmp_path / "far/logs/exits.log").read_text()
    assert "library noise from batch_runners.py" in log


def test_shipped_cases_need_no_shared_storage(tmp_path: Path, runner: Any, workers: Any) -> None:
    study, out = make_study(tmp_path / "in", "fine", "refused"), tmp_path / "out"
    cluster = cluster_module.Cluster(workers.scheduler_address, ship=True)
    summary = run_batch(study, out, SETTINGS, cluster=cluster, runner=runner)
    assert codes(summary) == {"fine": None, "refused": "E_EMPTY_FILE"}
    assert is_complete(out / "fine", rehash=True)
    assert (out / "fine/copy.txt").read_text() == "uptake of fine"
    again = run_batch(study, out, SETTINGS, cluster=cluster, runner=runner)
    assert again.count("skipped") == 1


def ask_as_a_stranger(address: str) -> str:
    command = [sys.executable, "-c", STRANGER, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=100).stdout


def pages(client: Any) -> int:
    """Answer of the scheduler to anybody who asks by HTTP what it does."""
    port = client.scheduler_info()["services"]["dashboard"]
    try:
        url = f"http://127.0.0.1:{port}/info/main/workers.html"
        return int(urllib.request.urlopen(url, timeout=10).status)
    except urllib.error.HTTPError as error:
        return error.code


def test_workers_started_for_a_batch_accept_nobody_without_its_certificate(
    tmp_path: Path, workers: Any
) -> None:
    assert ask_as_a_stranger(workers.scheduler_address).startswith("ran")  # which has no TLS
    with distributed.Client(workers, set_as_default=False) as client:
        assert pages(client) == 200
    cluster = cluster_module.Cluster(kind="local", workers=1)
    with cluster.pool("a:B", None, tmp_path) as pool:
        client = pool._client
        client.wait_for_workers(1, timeout=60)
        told = client.scheduler_info()
        for worker, facts in told["workers"].items():
            assert worker.startswith("tls://127.0.0.1:")
            assert facts["nanny"].startswith("tls://127.0.0.1:")
        answer = ask_as_a_stranger(told["address"])
        assert [line.split()[:2] for line in answer.splitlines()] == [
            ["tcp", "refused"],
            ["tls", "refused"],
        ]
        assert pages(client) == 404
        assert client.submit(os.getpid).result(timeout=20) != os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="sbatch is a shell script here")
def test_slurm_jobs_get_a_certificate_that_nobody_else_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for name, text in {
        "sbatch": 'cd; cp "$1" job.sh; bash job.sh >log 2>&1 & echo Submitted batch job $!',
        "scancel": "kill $1",
    }.items():
        script = home / "bin" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/bin/bash\n{text}\n")
        script.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    cluster = cluster_module.Cluster(kind="slurm", workers=1)
    with cluster.pool("a:B", None, tmp_path) as pool:
        client = pool._client
        client.wait_for_workers(1, timeout=60)
        assert all(w.startswith("tls://") for w in client.scheduler_info()["workers"])
        assert pages(client) == 404
        (room,) = home.glob(".medfuse-*")
        assert room.stat().st_mode & 0o077 == 0
        assert f"--tls-key {room}" in (home / "job.sh").read_text()
    assert not room.exists()


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_a_case_costs_no_case(
    tmp_path: Path, runner: Any, workers: Any
) -> None:
    study, out = make_study(tmp_path / "in", "slow-1", "slow-2", seconds=4), tmp_path / "out"
    cluster = cluster_module.Cluster(workers.scheduler_address)
    with distributed.Client(workers, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    killer = when(lambda: half_built(out), lambda: os.kill(pids[0], signal.SIGKILL))
    summary = run_batch(study, out, SETTINGS, cluster=cluster, runner=runner)
    killer.join()
    assert codes(summary) == {"slow-1": None, "slow-2": None}
    assert all(is_complete(out / name, rehash=True) for name in ("slow-1", "slow-2"))
    assert half_built(out) == []


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give this process and what it starts a certificate as docs/studies.md says."""
    made = distributed.Security.temporary()
    key, cert = tmp_path / "dask.key", tmp_path / "dask.crt"
    key.write_text(made.tls_client_key)
    cert.write_text(made.tls_client_cert)
    settings = {"ca-file": str(cert)}
    for role in ("client", "scheduler", "worker"):
        settings |= {f"{role}.key": str(key), f"{role}.cert": str(cert)}
    for name, value in settings.items():
        variable = "DASK_DISTRIBUTED__COMM__TLS__" + name.upper().replace(".", "__")
        monkeypatch.setenv(variable.replace("-", "_"), value)
    with dask.config.set({f"distributed.comm.tls.{k}": v for k, v in settings.items()}):
        yield


@pytest.mark.slow
def test_a_scheduler_that_is_restarted_costs_no_case(
    tmp_path: Path, runner: Any, certificates: None
) -> None:
    study, out = make_study(tmp_path / "in", "slow-1", "slow-2", seconds=4), tmp_path / "out"
    address = f"tls://127.0.0.1:{free_port()}"
    with Processes(address) as first:
        second = Processes(address)

        def restart() -> None:
            first.kill()
            second.__enter__()

        helper = when(lambda: half_built(out), restart)
        cluster = cluster_module.Cluster(address)
        summary = run_batch(study, out, SETTINGS, cluster=cluster, runner=runner)
        helper.join()
        second.__exit__()
    assert codes(summary) == {"slow-1": None, "slow-2": None}
    assert all(is_complete(out / name, rehash=True) for name in ("slow-1", "slow-2"))


def test_a_scheduler_that_does_not_answer_is_named(
    tmp_path: Path, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_S", 1.0)
    cluster = cluster_module.Cluster(ADDRESS.format(free_port()))
    study = make_study(tmp_path / "in", "a")
    with pytest.raises(InputError, match="Cannot reach the Dask scheduler: tcp://127") as caught:
        run_batch(study, tmp_path / "out", SETTINGS, cluster=cluster, runner=runner)
    assert caught.value.code == "E_CLUSTER"


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({}, "names no certificate"),
        ({"ca-file": "gone.crt", "client.cert": "gone.crt"}, "cannot be read"),
    ],
)
def test_tls_without_a_certificate_says_what_to_set(
    tmp_path: Path, runner: Any, settings: dict[str, str], cause: str
) -> None:
    cluster = cluster_module.Cluster(f"tls://127.0.0.1:{free_port()}")
    study = make_study(tmp_path / "in", "a")
    with (
        dask.config.set({f"distributed.comm.tls.{k}": v for k, v in settings.items()}),
        pytest.raises(InputError, match=cause) as caught,
    ):
        run_batch(study, tmp_path / "out", SETTINGS, cluster=cluster, runner=runner)
    assert caught.value.code == "E_CLUSTER"
    assert "distributed.comm.tls.ca-file" in str(caught.value)


class Processes:
    """A scheduler and a worker as a person starts them."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        protocol, _, place = self.address.partition("://")
        port = place.rpartition(":")[2]
        quiet = ["--no-dashboard", "--protocol", protocol]
        for command in (
            ["scheduler", "--host", "127.0.0.1", "--port", port, *quiet],
            ["worker", self.address, "--nthreads", "1", *quiet],
        ):
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *command],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        return self

    def kill(self) -> None:
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
