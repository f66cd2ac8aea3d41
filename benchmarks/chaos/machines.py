"""Several Ray nodes on one machine: a head without GPUs, and workers with one GPU each that is not there."""

from __future__ import annotations

import logging
import os

import psutil
from ray.cluster_utils import Cluster

from jobs.cluster.session import set_variables

WORKER = {"num_cpus": 3, "num_gpus": 1}
ENCODER = "UnitEncoder"  # in the title of an encoder's process


class Machines:
    """A cluster for as long as the `with` block lasts. Processes inherit `environment` on top of this one's."""

    def __init__(self, environment: dict[str, str], *, workers: int = 2, object_store_bytes: int = 150_000_000):
        self.environment, self.workers, self.store = environment, workers, object_store_bytes
        self.cluster: Cluster | None = None

    def __enter__(self) -> Machines:
        logging.getLogger("ray").setLevel(logging.ERROR)
        set_variables()  # each node would start a worker a CPU beforehand, which nobody uses
        os.environ.update(self.environment)  # Ray gives its processes what this one has
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        for name in self.environment:
            os.environ.pop(name, None)

    def start(self) -> None:
        head = {"num_cpus": 2, "object_store_memory": self.store, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(self.workers):
            self.add_worker()

    def stop(self) -> None:
        if self.cluster is not None:
            cluster, self.cluster = self.cluster, None
            for node in cluster.list_all_nodes():
                node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            cluster.worker_nodes.clear()
            cluster.head_node = None
            cluster.shutdown()

    @property
    def address(self) -> str:
        return self.cluster.address

    def add_worker(self) -> None:
        self.cluster.add_node(**WORKER, object_store_memory=self.store)

    def kill_worker(self) -> None:
        """SIGKILL a node that encodes, with everything on it."""
        node = next(node for node in self.cluster.worker_nodes if self._encoders(node))
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        """SIGKILL the head node; the others find out by themselves."""
        self.cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)

    def encoders(self) -> list[psutil.Process]:
        """The encoders' processes, the oldest first."""
        found = [process for node in self.cluster.worker_nodes for process in self._encoders(node)]
        return sorted(found, key=lambda process: process.create_time())

    def _encoders(self, node) -> list[psutil.Process]:
        (raylet,) = node.all_processes["raylet"]
        try:
            return [p for p in psutil.Process(raylet.process.pid).children(recursive=True) if _is_encoder(p)]
        except psutil.NoSuchProcess:
            return []


def _is_encoder(process: psutil.Process) -> bool:
    try:
        return ENCODER in " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False
