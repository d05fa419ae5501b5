"""Starting and ending the processes of one run. Only `rtj.main` uses it.

Four things can go wrong with several processes that cannot with one, and none may
leave the others waiting in a collective for ever:

- one is never started: see `rtj.rendezvous`;
- one ends with an error: it says so through the coordination service, and the others
  end within seconds, with its message and exit code (`joined`);
- one dies without a word (killed, power) or is stopped (SIGSTOP): JAX's heartbeat,
  lost for 30 s, aborts the others with SIGABRT (134 in a shell). JAX's default is
  100 s. Where the dead one's connections break, as on one machine, the others' step
  fails at once, and they end with 1;
- one is stuck but alive: the watchdog of whichever notices first (`rtj.watchdog`,
  `train.stall_s`) tells the others, and all end with 7 (`end_stalled`).
"""

import contextlib
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax._src import clusters, distributed

from rtj.errors import ConfigError, NoProgress, RtjError, Stopped
from rtj.rendezvous import meet, split_address

HEARTBEAT_S = 30  # not less: a live migration pauses a VM for seconds
_GRACE_S = 5.0  # for a process to end by itself once another has failed
_LEAVE_S = 10.0  # for all to have heard of a failure before any exits
_POLL_S = 1.0
_TELL_S = 20.0  # for a stalled process to tell the others: one may be stopped

_FAILED = "rtj/failed"

# Taken by the thread that ends this process, and never given back: a process that has
# heard of a failure has its own collectives break a moment later.
_end = threading.Lock()


@dataclass(frozen=True)
class Cluster:
    """The processes of one run, as this one sees them.

    Attributes:
        coordinator: HOST:PORT of process 0.
        count, index: of all processes, and of this one.
        local_devices: which devices of its host this process uses; None: all that it
            can see.
    """

    coordinator: str
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None


def find_cluster(
    coordinator: str = "", count: int = 0, index: int = -1, mode: str = "auto"
) -> Cluster | None:
    """The run's processes, from flags or from the environment; None: this one alone.

    Without flags, and unless `mode` is off, JAX looks for a TPU pod, SLURM, Open MPI
    or Kubernetes. With mode on, to find nothing is an error.

    Raises:
        ConfigError: flags that do not go together.
    """
    given = {
        "coordinator": coordinator != "",
        "processes": count != 0,
        "process": index != -1,
    }
    if any(given.values()):
        lacking = [f"--{flag}" for flag, there in given.items() if not there]
        if lacking:
            raise ConfigError(
                "--coordinator, --processes and --process go together; missing: "
                + ", ".join(lacking)
            )
        if mode == "off":
            raise ConfigError("--coordinator does not go with --distributed=off")
        split_address(coordinator)
        if not 0 <= index < count:
            raise ConfigError(
                f"--process={index}; allowed: 0 to --processes - 1 = {count - 1}"
            )
        return Cluster(coordinator, count, index)
    found = _detect() if mode != "off" else None
    if found is None and mode == "on":
        raise ConfigError(
            "--distributed=on, but there is no TPU pod, SLURM, Open MPI or Kubernetes "
            "job of several processes; give --coordinator, --processes and --process"
        )
    return found


def _detect() -> Cluster | None:
    # The search of jax.distributed.initialize() without arguments.
    address, count, index, local = (
        clusters.ClusterEnv.auto_detect_unset_distributed_params(
            os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None, None, None, 300
        )
    )
    if address is None or count is None or index is None or count == 1:
        return None
    return Cluster(address, count, index, _own_devices(local, os.environ))


def _own_devices(
    detected: object, environ: Mapping[str, str]
) -> tuple[int, ...] | None:
    """One device a process, unless it has its host, or one visible device, to itself.

    JAX gives a SLURM or Open MPI task the device of its local number; a task that is
    alone on its host would leave the host's others idle, and one that its scheduler
    has bound to a device has no second one to count.
    """
    override = environ.get("JAX_LOCAL_DEVICE_IDS")
    if override:
        return tuple(int(number) for number in override.split(","))
    if not isinstance(detected, list | tuple):
        return None
    nodes, tasks = environ.get("SLURM_STEP_NUM_NODES"), environ.get("SLURM_NTASKS")
    alone = tasks is not None and nodes == tasks
    alone = alone or environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    bound = environ.get("CUDA_VISIBLE_DEVICES", "").count(",") == 0
    if alone or ("CUDA_VISIBLE_DEVICES" in environ and bound):
        return None
    return tuple(detected)


@contextlib.contextmanager
def joined(cluster: Cluster | None, wait_s: float) -> Iterator[None]:
    """Inside, JAX sees the devices of all processes; all leave together.

    An error ends this process with its exit code, after the others have heard of it
    and printed it. `Stopped` is no error: all processes raise it at the same step.

    Args:
        cluster: None does nothing.
        wait_s: for all processes to be there, seconds.

    Raises:
        NoProgress: not all came.
    """
    if cluster is None:
        yield
        return
    meet(cluster.coordinator, cluster.count, cluster.index, wait_s)
    _initialize(cluster, wait_s)
    leaving = threading.Event()
    watch = threading.Thread(target=_watch, args=(cluster, leaving), daemon=True)
    watch.start()
    try:
        yield
    except Stopped:
        _shut_down(leaving, watch)
        raise
    except BaseException as error:
        leaving.set()
        _fail(cluster, error)
    else:
        _shut_down(leaving, watch)


def _initialize(cluster: Cluster, wait_s: float) -> None:
    # Its handler would catch the signals that rtj.stop waits for, and those that
    # should end a process which is not training yet.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.count,
        cluster.index,
        local_device_ids=cluster.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=round(max(wait_s, 10)),
        heartbeat_timeout_seconds=HEARTBEAT_S,
    )


def _shut_down(leaving: threading.Event, watch: threading.Thread) -> None:
    leaving.set()
    watch.join()
    jax.distributed.shutdown()


def _watch(cluster: Cluster, leaving: threading.Event) -> None:
    """Ends this process when another has failed and the main thread does not."""
    while not leaving.wait(_POLL_S):
        try:
            found = _client().key_value_dir_get(_FAILED)
        except jax.errors.JaxRuntimeError:
            return  # process 0 is gone, and JAX ends this one
        if found and not leaving.wait(_GRACE_S):
            _end.acquire()
            code, _, message = found[0][1].partition(" ")
            _exit(int(code), f"rtj: {message}")


def _fail(cluster: Cluster, error: BaseException) -> None:
    """Tells the others and ends this process, which may hold threads that wait."""
    _end.acquire()
    code = error.exit_code if isinstance(error, RtjError) else 1
    message = " ".join(str(error).split()) or repr(error)
    if not isinstance(error, RtjError):
        traceback.print_exception(error)
    note = f"{code} process {cluster.index} ({platform.node()}) failed: {message}"
    # Another may have been quicker, or the service may be gone with process 0.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _client().key_value_set(f"{_FAILED}/note", note)
    _exit(code, f"rtj: {message}")


def end_stalled(cluster: Cluster | None, error: NoProgress) -> None:
    """Ends this process from a thread, whatever its main thread is stuck in.

    With a cluster, the others hear of it first.
    """
    # Print, the service's host and the others may all be stuck as well.
    last = threading.Timer(_TELL_S, os._exit, (error.exit_code,))
    last.daemon = True
    last.start()
    if cluster is None:
        print(f"rtj: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    _fail(cluster, error)


def _exit(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _client().wait_at_barrier("rtj/leave", round(1000 * _LEAVE_S))
    if distributed.global_state.service is not None:
        time.sleep(1)  # the others' clients abort when the service goes before them
    os._exit(code)


def _client() -> Any:
    return distributed.global_state.client
