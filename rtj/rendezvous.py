"""Waiting until all processes have been started, and saying which were not.

`jax.distributed.initialize` waits too, but when its time is up it aborts the process
(exit code 134) without a word on who was missing. So the processes first meet here, at
the coordinator's address, before JAX's coordination service takes it.
"""

import contextlib
import platform
import socket
import time

from rtj.errors import ConfigError
from rtj.peers import as_error, missing

_HELLO_S = 5.0  # for what a connected process says first
_RETRY_S = 0.2


def meet(address: str, count: int, index: int, wait_s: float) -> None:
    """Return once all `count` processes have called this.

    Args:
        address: HOST:PORT, of process 0.
        index: of this process.
        wait_s: from the call, seconds.

    Raises:
        NoProgress: some process did not come in time.
        ConfigError: one was started with another count or with the index of another.
            Either is the same on all that came.
    """
    host, port = split_address(address)
    if index == 0:
        problem = _receive(port, count, wait_s)
    else:
        problem = _visit(host, port, f"rtj {index} {count} {platform.node()}", wait_s)
    if problem:
        raise as_error(problem)


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT in its parts, or a ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"coordinator {address!r}; allowed: HOST:PORT of process 0")
    return host.strip("[]"), int(port)


def _receive(port: int, count: int, wait_s: float) -> str:
    """Process 0: hear all others, tell all of them the outcome and return it."""
    end = time.monotonic() + wait_s
    hosts = {0: platform.node()}
    problem = ""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(port))
        guests = []
        while len(hosts) < count and not problem:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                guest, _ = server.accept()
            except TimeoutError:
                problem = missing(hosts, count, "at the start", wait_s)
                break
            stack.enter_context(guest)
            words = _line(guest, _HELLO_S).split()
            if len(words) == 4 and words[0] == "rtj":  # else a port scanner
                guests.append(guest)
                problem = _admit(hosts, count, int(words[1]), int(words[2]), words[3])
        for guest in guests:
            # The guest hangs up first, or this port would stay busy for a minute.
            with contextlib.suppress(OSError):
                guest.sendall(f"{problem or 'go'}\n".encode())
                guest.settimeout(_HELLO_S)
                guest.recv(1)
    return problem


def _admit(
    hosts: dict[int, str], count: int, index: int, its_count: int, host: str
) -> str:
    """Adds a process to `hosts`; what is wrong with it, or ""."""
    if its_count != count:
        return (
            f"process {index} ({host}) was started as one of {its_count} processes; "
            f"process 0 ({hosts[0]}) as one of {count}"
        )
    if index in hosts:
        return f"process {index} was started twice, on {hosts[index]} and on {host}"
    hosts[index] = host
    return ""


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            family = socket.AF_INET6
            return socket.create_server(
                ("", port), family=family, backlog=1024, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen at port {port} of the coordinator: {error}"
        ) from error


def _visit(host: str, port: int, hello: str, wait_s: float) -> str:
    """Another process: tell process 0 that this one is here, return its answer."""
    end = time.monotonic() + wait_s
    reason = "no answer"
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=_HELLO_S) as guest:
                guest.sendall(f"{hello}\n".encode())
                answer = _line(guest, wait_s + _HELLO_S)
        except OSError as error:
            reason = str(error)
        else:
            if answer:
                return "" if answer == "go" else answer
        time.sleep(_RETRY_S)
    _, index, count, name = hello.split()
    return (
        f"process 0 of {count} not seen at {host}:{port} within {wait_s:g} s by "
        f"process {index} ({name}): {reason}"
    )


def _line(connection: socket.socket, seconds: float) -> str:
    """One line without its end; "" if none comes in time."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("r", encoding="utf-8", errors="replace") as file:
            return file.readline(4096).strip()
    except OSError:
        return ""
