"""What the processes of one run tell each other beside arrays: a few short texts.

They go through the key-value store of JAX's coordination service, which process 0
hosts. JAX has no public name for it; this is the one file that knows the private one.
A run of one process has no peers, and nothing here asks for the service then.
"""

import itertools
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax._src import distributed  # there is no public key-value store

from rtj.errors import ConfigError, NoProgress, RtjError

Fact = dict[str, Any]
_NOT_SEEN = "not seen"

# The n-th `connect` of every process is the same one: it names the n-th conversation.
_conversations = itertools.count()


@dataclass(frozen=True)
class Peers:
    """One conversation of all processes; each takes part in every exchange of it.

    Attributes:
        index, count: of this process and of all.
        wait_s: seconds to wait for an answer.
        topic: tells this conversation from the others of the same processes.
    """

    index: int = 0
    count: int = 1
    wait_s: float = 120.0
    topic: str = ""

    @property
    def lead(self) -> bool:
        """Whether this process writes and prints what only one should."""
        return self.index == 0

    def from_lead(self, name: str, text: str) -> str:
        """What process 0 gave; the others' `text` is not looked at.

        Raises:
            NoProgress: process 0 did not answer within `wait_s`.
        """
        if self.count == 1:
            return text
        if self.lead:
            self._client.key_value_set(self._key(name), text)
            return text
        return self._wait_for_lead(name)

    def judge(
        self,
        name: str,
        fact: Mapping[str, Any],
        rule: Callable[[Sequence[Fact]], str],
    ) -> str:
        """What is wrong with the facts of all processes, the same text everywhere.

        Process 0 applies `rule` to the facts, in the order of the processes, each
        with its `host` added. "" means that nothing is wrong. A process that gave no
        fact within `wait_s` is what is wrong.
        """
        if self.count == 1:
            return ""
        mine = dict(fact) | {"host": platform.node()}
        self._client.key_value_set(self._key(name, self.index), json.dumps(mine))
        if not self.lead:
            return self._wait_for_lead(f"{name}/verdict").removeprefix("ok")
        facts = self._facts(name)
        verdict = self._missing(name, facts) or rule([facts[i] for i in sorted(facts)])
        self._client.key_value_set(self._key(name, "verdict"), verdict or "ok")
        return verdict

    def first_problem(self, name: str, problem: str) -> str:
        """The first problem that any process has, the same text everywhere; or ""."""
        if self.count == 1:
            return problem
        return self.judge(name, {"problem": problem}, _first_problem)

    def _facts(self, name: str) -> dict[int, Fact]:
        end, facts = time.monotonic() + self.wait_s, {}
        for index in range(self.count):
            left = max(end - time.monotonic(), 0.1)
            text = self._get(self._key(name, index), left)
            if text is not None:
                facts[index] = json.loads(text)
        return facts

    def _missing(self, name: str, facts: Mapping[int, Fact]) -> str:
        hosts = {index: fact["host"] for index, fact in facts.items()}
        return missing(hosts, self.count, f"at the start ({name})", self.wait_s)

    def post(self, name: str, text: str) -> None:
        """Make `text` readable to all, unless there is one of this name already."""
        try:
            self._client.key_value_set(self._key(name, "text"), text)
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise

    def read(self, name: str) -> str | None:
        """The text that was posted, or None so far; 0.3 ms on one machine."""
        # A lookup of the key itself raises where there is none; a folder is empty.
        found = self._client.key_value_dir_get(self._key(name))
        return found[0][1] if found else None

    def _wait_for_lead(self, name: str) -> str:
        # Process 0 may itself wait for a third one as long before it answers.
        text = self._get(self._key(name), self.wait_s + 10)
        if text is None:
            raise NoProgress(
                f"process 0 of {self.count} did not answer process {self.index} "
                f"({platform.node()}) within {self.wait_s + 10:g} s ({name})"
            )
        return text

    def _get(self, key: str, seconds: float) -> str | None:
        try:
            return self._client.blocking_key_value_get(key, round(1000 * seconds))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            return None

    def _key(self, *parts: object) -> str:
        return "/".join(map(str, (self.topic, *parts)))

    @property
    def _client(self) -> Any:
        return distributed.global_state.client


def _first_problem(facts: Sequence[Fact]) -> str:
    return next((str(fact["problem"]) for fact in facts if fact["problem"]), "")


ALONE = Peers()


def connect(wait_s: float) -> Peers:
    """A new conversation of all processes of this program.

    Raises:
        ConfigError: there are several, but `jax.distributed` was not initialised.
    """
    count = jax.process_count()
    if count > 1 and distributed.global_state.client is None:
        raise ConfigError(
            f"there are {count} processes, but jax.distributed.initialize was not "
            "called; rtj.main calls it unless --distributed=off"
        )
    topic = f"rtj/{next(_conversations)}"
    return Peers(jax.process_index(), count, wait_s, topic)


def missing(hosts: Mapping[int, str], count: int, where: str, seconds: float) -> str:
    """Names the processes that are not among `hosts`; "" if all are there."""
    absent = [str(index) for index in range(count) if index not in hosts]
    if not absent:
        return ""
    present = ", ".join(f"{index} ({host})" for index, host in sorted(hosts.items()))
    names = "process " if len(absent) == 1 else "processes "
    return (
        f"{names}{', '.join(absent)} of {count} {_NOT_SEEN} {where} within "
        f"{seconds:g} s; there: {present}"
    )


def as_error(problem: str, kind: type[RtjError] = ConfigError) -> RtjError:
    """A problem as the error to raise: NoProgress for one that `missing` described.

    The text is all that processes tell each other of a problem.
    """
    absent = problem.startswith("process") and f" {_NOT_SEEN} " in problem
    return (NoProgress if absent else kind)(problem)
