"""`Shop`: the instances of each workload on this host. One `step` looks, decides (`state.todo`) and does; it never waits.

The only module that writes the state files, starts processes and signals them. Safe beside another process that does the same.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from connectors.endpoints import Endpoint, write_endpoints
from connectors.process import system
from connectors.process.health import Prober
from connectors.process.settings import ProcessSettings
from connectors.process.state import Instance, State, todo
from connectors.statefile import content_of, locked, replace
from pipeline.ports.clock import Clock

_LOG = logging.getLogger("reflexarc.connectors.process")
_DECODER = msgspec.json.Decoder(State)
_STABLE_MS: Final = 10_000  # an instance that lived this long starts the back-off anew
_BACKOFF_MS: Final = (0, 200, 400, 800, 1600, 3200, 6400, 12_800, 30_000)


class ShopError(Exception):
    """The state cannot be read, or instances cannot be started."""


class StartingError(ShopError):
    """New instances do not get ready."""


@dataclass(slots=True)
class Slot:
    """A state under its lock; what `state` is set to is written."""

    state: State


@dataclass(slots=True)
class _Deaths:
    in_a_row: int = 0
    unready: int = 0
    not_before_ms: int = 0


class Shop:
    """State on disk and processes. Use inside a running event loop."""

    def __init__(self, config: ProcessSettings, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._folder = config.state_dir.absolute()
        self._probers = {name: Prober(settings) for name, settings in config.workloads.items()}
        self._deaths = {name: _Deaths() for name in config.workloads}

    @property
    def log_folder(self) -> Path:
        """Where the instances' output goes."""
        return self._folder / "logs"

    def load(self, name: str) -> State:
        """The state on disk, or where the workload starts."""
        path = self._state_file(name)
        try:
            content = content_of(path)
            if content is not None:
                return _DECODER.decode(content)
        except (OSError, msgspec.MsgspecError) as error:
            raise ShopError(f"{path} cannot be read: {error}") from error
        settings = self._config.workloads[name]
        return State(replicas=settings.replicas, history=settings.history)

    def lost_any(self, state: State) -> bool:
        """Whether an instance that should serve has ended since `state` was seen."""
        return any(instance.pid and not system.is_alive(instance.pid, instance.birth) for instance in state.instances)

    @contextlib.contextmanager
    def changing(self, name: str) -> Iterator[Slot]:
        """The state under its lock, written at the end (durably where the wish changed)."""
        with locked(self._folder / f"{name}.lock"):
            before = self.load(name)
            slot = Slot(before)
            yield slot
            if slot.state != before:
                self._save(name, slot.state, durable=slot.state.generation != before.generation)
                if slot.state.generation != before.generation:
                    self._deaths[name] = _Deaths()

    def failed_starts(self, name: str) -> int:
        """Instances in a row that ended before they were ready, since the wish changed."""
        return self._deaths[name].unready

    def step(self, name: str) -> State:
        """One pass over a workload; what is there then."""
        now_ms = self._clock.now_ms()
        with locked(self._folder / f"{name}.lock"):
            before = self.load(name)
            state = self._looked_at(name, before, now_ms)
            left = todo(state)
            for instance in left.drain:
                state = state.with_instance(msgspec.structs.replace(instance, draining_at_ms=now_ms, ready=False))
            if state != before:
                self._save(name, state)
            if now_ms >= self._deaths[name].not_before_ms:
                for _ in range(left.start):
                    state = self._start(name, state, now_ms)
        self._publish()
        return self._stop_drained(name, now_ms) if any(instance.draining_at_ms for instance in state.instances) else state

    async def close(self) -> None:
        """Stop checking; everything runs on."""
        for prober in self._probers.values():
            await prober.close()

    # --- looking ---

    def _looked_at(self, name: str, state: State, now_ms: int) -> State:
        found = [self._found(instance) for instance in state.instances]
        alive = [instance for instance in found if system.is_alive(instance.pid, instance.birth)]
        for instance in found:
            if instance not in alive and not instance.draining_at_ms:
                self._note_death(name, instance, now_ms)
        prober, checked = self._probers[name], []
        for instance in alive:
            ready = not instance.draining_at_ms and prober.is_ready(instance)
            if ready != instance.ready and not instance.draining_at_ms:
                event = "instance_ready" if ready else "instance_unready"
                _LOG.info(event, extra={"instance": instance.name, "version": instance.version, "port": instance.port})
            checked.append(msgspec.structs.replace(instance, ready=ready, was_ready=instance.was_ready or ready))
        if any(instance.ready and now_ms - instance.created_at_ms >= _STABLE_MS for instance in checked):
            self._deaths[name].in_a_row = 0
        prober.keep({(instance.name, instance.pid) for instance in alive})
        return msgspec.structs.replace(state, instances=tuple(checked))

    def _found(self, instance: Instance) -> Instance:
        # A crash between noting an instance and confirming its start: it runs with our mark, or it never started.
        if instance.pid:
            return instance
        pid = system.marked(self._mark(instance.name, instance.created_at_ms))
        return msgspec.structs.replace(instance, pid=pid, birth=system.birth(pid) if pid else "")

    def _note_death(self, name: str, instance: Instance, now_ms: int) -> None:
        deaths = self._deaths[name]
        deaths.unready += not instance.was_ready
        deaths.not_before_ms = now_ms + _BACKOFF_MS[min(deaths.in_a_row, len(_BACKOFF_MS) - 1)]
        deaths.in_a_row += 1
        facts = {"instance": instance.name, "pid": instance.pid, "was_ready": instance.was_ready, "lived_ms": now_ms - instance.created_at_ms}
        _LOG.warning("instance_died", extra=facts)

    # --- doing ---

    def _start(self, name: str, state: State, now_ms: int) -> State:
        settings = self._config.workloads[name]
        instance = Instance(
            name=f"{name}-{state.serial + 1}",
            port=self._free_port(name, state),
            version=state.version,
            restart_key=state.restart_key,
            created_at_ms=now_ms,
        )
        noted = msgspec.structs.replace(state.with_instance(instance), serial=state.serial + 1)
        self._save(name, noted)
        fields = {"port": instance.port, "version": instance.version, "instance": instance.name}
        fields |= {"workload": name, "service": settings.service, "site": settings.site}
        self.log_folder.mkdir(parents=True, exist_ok=True)
        try:
            pid = system.spawn(
                [word.format(**fields) for word in settings.command],
                env={**settings.env, system.MARK: self._mark(instance.name, now_ms)},
                log=self.log_folder / f"{name}.log",
                cwd=settings.cwd,
            )
        except OSError as error:
            raise StartingError(f"{settings.command[0]} cannot be started: {error.strerror}") from error
        started = noted.with_instance(msgspec.structs.replace(instance, pid=pid, birth=system.birth(pid)))
        self._save(name, started)
        return started

    def _free_port(self, name: str, state: State) -> int:
        settings = self._config.workloads[name]
        taken = {instance.port for instance in state.instances}
        ports, first = settings.port_range, state.serial % len(settings.port_range)
        in_turn: list[int] = [*ports[first:], *ports[:first]]  # round and round, so that a port is not another instance's at once
        for port in in_turn:
            if port not in taken and system.is_free(settings.address, port):
                return port
        raise StartingError(f"{name}: no free port in {settings.ports}")

    def _stop_drained(self, name: str, now_ms: int) -> State:
        with locked(self._folder / f"{name}.lock"):
            before = state = self.load(name)
            for instance in state.instances:
                if instance.terminated_at_ms and now_ms - instance.terminated_at_ms >= self._config.stop_ms:
                    system.send(instance.pid, instance.birth, signal.SIGKILL)
                elif instance.draining_at_ms and not instance.terminated_at_ms and now_ms - instance.draining_at_ms >= self._config.drain_ms:
                    system.send(instance.pid, instance.birth, signal.SIGTERM)
                    state = state.with_instance(msgspec.structs.replace(instance, terminated_at_ms=now_ms))
            if state != before:
                self._save(name, state)
            return state

    def _publish(self) -> None:
        path = self._config.endpoints_file
        if path is None:
            return
        with locked(self._folder / "endpoints.lock"):
            write_endpoints(path, [endpoint for name in self._config.workloads for endpoint in self._endpoints(name)])

    def _endpoints(self, name: str) -> list[Endpoint]:
        settings = self._config.workloads[name]
        return [
            Endpoint(name, settings.service, settings.site, instance.version, settings.address, instance.port, instance.ready)
            for instance in self.load(name).instances
            if instance.pid and not instance.draining_at_ms
        ]

    # --- files ---

    def _state_file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _save(self, name: str, state: State, *, durable: bool = False) -> None:
        replace(self._state_file(name), msgspec.json.format(msgspec.json.encode(state), indent=1), durable=durable)

    def _mark(self, instance: str, created_at_ms: int) -> str:
        return f"{self._folder}:{instance}:{created_at_ms}"
