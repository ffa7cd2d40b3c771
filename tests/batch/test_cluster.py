"""Batches on Dask workers: the same result folders, whatever is lost on the way."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
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
cluster_module = importlib.import_module("medfuse.batch.cluster")

HERE = Path(__file__).resolve().parent
SETTINGS = CaseSettings(method="mean")
ADDRESS = "tcp://127.0.0.1:{}"


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


@pytest.mark.slow
def test_a_scheduler_that_is_restarted_costs_no_case(tmp_path: Path, runner: Any) -> None:
    study, out = make_study(tmp_path / "in", "slow-1", "slow-2", seconds=4), tmp_path / "out"
    address = ADDRESS.format(free_port())
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


class Processes:
    """A scheduler and a worker as a person starts them."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        port = self.address.rpartition(":")[2]
        quiet = ["--no-dashboard"]
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
