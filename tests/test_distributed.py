"""Finding the processes, meeting and agreeing with them; see also test_processes.py."""

import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from rtj.distributed import Cluster, find_cluster
from rtj.errors import ConfigError, NoProgress, RtjError
from rtj.peers import Peers, as_error, missing
from rtj.preflight import code_hash, data_fingerprint, differences
from rtj.rendezvous import meet
from rtj.sharding import in_mesh_order
from rtj.stop import StopRequest


@pytest.fixture
def slurm(monkeypatch):
    """Sets what SLURM does for task 5 of 8 on 2 nodes, and `changes`."""

    def set_environment(**changes):
        task = {
            "SLURM_JOB_ID": "77",
            "SLURM_STEP_NODELIST": "gpu[07-08]",
            "SLURM_NTASKS": "8",
            "SLURM_PROCID": "5",
            "SLURM_LOCALID": "1",
            "SLURM_STEP_NUM_NODES": "2",
        }
        for name, value in (task | changes).items():
            monkeypatch.setenv(name, value)

    return set_environment


def test_without_flags_and_without_a_cluster_a_process_is_alone():
    assert find_cluster() is None


def test_flags_name_the_processes():
    assert find_cluster("a:1", 4, 3) == Cluster("a:1", 4, 3, None)


def test_slurm_gives_each_of_several_tasks_of_a_node_one_device(slurm):
    slurm()
    found = find_cluster()
    assert found is not None
    assert found.coordinator.startswith("gpu07:")
    assert (found.count, found.index, found.local_devices) == (8, 5, (1,))


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"},
        {"CUDA_VISIBLE_DEVICES": "3"},
    ],
    ids=["one task a node", "bound by the scheduler"],
)
def test_a_task_alone_on_its_node_or_bound_takes_all_it_can_see(slurm, changes):
    slurm(**changes)
    found = find_cluster()
    assert found is not None
    assert found.local_devices is None


def test_a_cluster_is_not_looked_for_when_off_and_one_task_is_alone(slurm):
    slurm()
    assert find_cluster(mode="off") is None
    slurm(SLURM_NTASKS="1", SLURM_PROCID="0")
    assert find_cluster() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a:1", 2, -1, "auto"), "missing: --process"),
        (("", 2, 1, "auto"), "missing: --coordinator"),
        (("a:1", 0, 1, "auto"), "missing: --processes"),
        (("a:1", 2, 2, "auto"), "--process=2; allowed: 0 to --processes - 1 = 1"),
        (("a", 2, 1, "auto"), "allowed: HOST:PORT"),
        (("a:70000", 2, 1, "auto"), "allowed: HOST:PORT"),
        (("a:1", 2, 1, "off"), "--distributed=off"),
        (("", 0, -1, "on"), "--distributed=on, but there is no"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        find_cluster(*arguments)


def meet_all(visits, wait_s=20.0):
    """What `meet` said to each (count, index), all at once; "" is success."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def one(visit):
        try:
            count, index = visit
            meet(f"localhost:{port}", count, index, wait_s)
        except RtjError as error:
            return f"{error.exit_code} {error}"
        return ""

    with ThreadPoolExecutor(len(visits)) as pool:
        return list(pool.map(one, visits))


def test_processes_that_all_come_meet():
    assert meet_all([(3, 2), (3, 0), (3, 1)]) == ["", "", ""]


@pytest.mark.parametrize(
    ("visits", "message"),
    [
        (
            [(2, 0), (3, 1)],
            "^2 process 1 .* was started as one of 3 processes; process 0",
        ),
        ([(3, 0), (3, 1), (3, 1)], "^2 process 1 was started twice, on"),
    ],
)
def test_processes_started_wrongly_are_told_so(visits, message):
    for said in meet_all(visits):
        assert re.search(message, said)


def test_who_did_not_come_is_named():
    text = missing({0: "a", 2: "b"}, 4, "at the start", 5)
    assert text == (
        "processes 1, 3 of 4 not seen at the start within 5 s; there: 0 (a), 2 (b)"
    )
    assert missing({0: "a", 1: "b"}, 2, "at the start", 5) == ""
    assert isinstance(as_error(text), NoProgress)
    assert isinstance(as_error("process 1 (b) has jax 2"), ConfigError)


def test_one_that_waits_in_vain_ends_with_the_code_for_it():
    (said,) = meet_all([(2, 0)], wait_s=0.5)
    assert said.startswith("7 process 1 of 2 not seen at the start within 0.5 s")


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at port {port}"):
            meet(f"localhost:{port}", 2, 0, 1.0)


def test_facts_are_compared_with_those_of_process_0():
    facts = [
        {"host": "a", "jax": "1", "images": 5},
        {"host": "b", "jax": "1", "images": 5},
        {"host": "c", "jax": "2", "images": 6},
    ]
    assert differences(facts[:2]) == ""
    assert differences(facts) == (
        "process 2 (c) has jax 2; process 0 (a) has 1; "
        "process 2 (c) has images 6; process 0 (a) has 5"
    )


class Images:
    """A source of `images` with labels 0, 1, 0, 1, ..."""

    name, num_classes = "images", 2

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": index % 2, "id": str(index)}


def test_a_fingerprint_of_data_changes_with_one_byte():
    images = [bytes([number]) for number in range(9)]
    whole = data_fingerprint(Images(images))
    assert data_fingerprint(Images(list(images))) == whole
    assert data_fingerprint(Images([*images[:8], b"x"])) != whole
    assert data_fingerprint(Images(images[:8])) != whole


def test_the_hash_of_the_code_is_that_of_the_files_and_of_nothing_else(
    tmp_path, monkeypatch
):
    from rtj import preflight

    (tmp_path / "a.py").write_text("x = 1")
    monkeypatch.setattr(preflight, "__file__", str(tmp_path / "preflight.py"))
    before = code_hash()
    (tmp_path / "a.pyc").write_text("left over")
    assert code_hash() == before
    (tmp_path / "a.py").write_text("x = 2")
    assert code_hash() != before


def test_devices_of_a_process_and_of_a_slice_stand_side_by_side():
    # As on a 4 x 4 pod: ids go by rows of chips, processes hold squares of them.
    chips = [
        SimpleNamespace(id=4 * y + x, process_index=2 * (y // 2) + x // 2)
        for y in range(4)
        for x in range(4)
    ]
    order = [device.process_index for device in in_mesh_order(chips)]
    assert order == sorted(order)
    slices = [
        SimpleNamespace(id=n, process_index=n, slice_index=1 - n % 2) for n in range(4)
    ]
    assert [device.id for device in in_mesh_order(slices)] == [1, 3, 0, 2]


@dataclass(frozen=True)
class Board(Peers):
    """Peers that are threads, with a dict as the key-value store."""

    texts: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, name, text):
        with self.lock:
            self.texts.setdefault(name, text)

    def read(self, name):
        with self.lock:
            return self.texts.get(name)


class Steps:
    """Steps that end only once all processes have entered them, as collectives do."""

    def __init__(self, count):
        self.count, self.entered = count, Counter[int]()
        self.changed = threading.Condition()

    def enter(self, step):
        with self.changed:
            self.entered[step] += 1
            self.changed.notify_all()

    def wait(self, step):
        with self.changed:
            assert self.changed.wait_for(
                lambda: self.entered[step] == self.count, timeout=20
            )


@pytest.mark.parametrize("signalled", [(0,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("slow", [0, 2])
def test_all_stop_at_the_same_tick_however_their_steps_interleave(signalled, slow):
    """Each thread is a process, and `slow` sleeps before it looks."""
    count, steps = 3, Steps(3)
    first_board = Board(count=count)

    def process(index):
        stop = StopRequest(replace(first_board, index=index))
        for step in range(50):
            if step == 10 + index and index in signalled:
                stop.requested = "SIGTERM"
            # As in the loop: step k is dispatched, then the end of k - 1 is awaited.
            steps.enter(step)
            if step:
                steps.wait(step - 1)
            if index == slow:
                time.sleep(0.002)
            if stop.agreed():
                return step, stop.reason
        return None

    with ThreadPoolExecutor(count) as pool:
        ends = set(pool.map(process, range(count)))
    assert len(ends) == 1
    step, reason = ends.pop()
    first = min(10 + index for index in signalled)
    assert first <= step <= first + 3
    assert reason in {f"SIGTERM at process {index}" for index in signalled}
