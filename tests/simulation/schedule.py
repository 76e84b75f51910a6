"""Schedules: what happens, one step after the other, and what must be true in the end."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from rooms.sites import ROOM, Disk

from jupyter_teleportal.core.values import ZERO_OFFSET, Scope, offset_key
from jupyter_teleportal.transports.memory import MemoryHub, MemorySyncTransport

from .clients import messages, updates
from .contents import KINDS, Kind
from .virtual import run_virtually
from .world import FILE_ID, TIMING, Folder, Remembered, Site, Wrong, text_of_log

NAMES = "abc"
HEAL_S = 60.0
SAVED_S = 5.0
ASKED_S = TIMING.save_reply_timeout_s
REOPEN_S = 30.0
FORGED_LEASE_S = 3.0
PAUSES_S = (0.0, 0.05, 0.5, 1.5, 4.0, 9.0)


@dataclass(frozen=True)
class Step:
    """One thing that happens, to the replica `at` where it is about one."""

    what: str
    at: int = 0
    size: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        if self.what == "wait":
            return f"wait {PAUSES_S[self.size]} s"
        whom = "" if self.what in WORLDLY else f" {NAMES[self.at]}"
        size = f" {self.size}" if self.size else ""
        return f"{self.what}{whom}{size}" + (f" {self.data.hex()}" if self.data else "")


WORLDLY = {
    "wait",
    "empty the hub",
    "trim the log",
    "outside",
    "cut all",
    "heal all",
    "fill the hub",
    "make the hub read-only",
    "mend the hub",
    "copy the hub",
    "roll back the hub",
    "lose the log's end",
    "announce by offset",
    "fill the disk",
    "mend the disk",
    "outside, what is there",
    "another file at an old path",
    "delete outside",
    "another kind of key",
    "forge",
}
LOCAL = {
    "type",
    "save",
    "kill",
    "stop",
    "start",
    "freeze",
    "thaw",
    "cut",
    "heal",
    "refuse",
    "lose replies",
    "lose messages",
    "repeat messages",
    "slow",
    "checkpoint",
    "rename",
    "delete",
    "deny",
    "send",
}
# Keys of a document that may be of another kind than servers expect.
KEYS = ("log", "checkpoint", "saved", "saver")

_small = st.integers(1, 4)
_where = st.integers(0, len(NAMES) - 1)
steps = st.one_of(
    st.builds(Step, st.just("type"), _where),
    st.builds(Step, st.just("wait"), st.just(0), st.integers(0, len(PAUSES_S) - 1)),
    st.builds(Step, st.sampled_from(sorted(LOCAL - {"send"})), _where, _small),
    st.builds(Step, st.sampled_from(sorted(WORLDLY - {"wait", "forge"})), st.just(0), _small),
    st.builds(Step, st.just("send"), _where, st.just(0), messages),
    st.builds(Step, st.just("forge"), st.just(0), _small, updates),
)
schedules = st.lists(steps, min_size=1, max_size=22)
kinds = st.sampled_from(sorted(KINDS))


class _Record(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.errors.append(f"{record.getMessage()} {error!r}")


@dataclass
class Run:
    """One schedule, carried out."""

    kind: Kind = KINDS["text"]
    hub: MemoryHub = field(default_factory=MemoryHub)
    folder: Folder = field(init=False)
    sites: dict[str, Site] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    """Tokens that must be there in the end, and who typed each."""
    excused: set[str] = field(default_factory=set)
    """Tokens that nobody who lives could know of."""
    in_file_only: set[str] = field(default_factory=set)
    """Tokens that only the file still holds, of which nobody can know who wrote it."""
    outside: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Paths that the file had."""
    strangers: dict[str, str] = field(default_factory=dict)
    """What other files hold, by their paths."""
    memory: dict[str, Remembered] = field(default_factory=lambda: defaultdict(Remembered))
    """What replicas remember of ids, by their names."""
    deleted: bool = False
    """Whether the file was deleted, and nobody has asked to save it since."""
    asked_at: float = -ASKED_S
    copied: Any = None
    story: list[str] = field(default_factory=list)
    record: _Record = field(default_factory=_Record)

    def __post_init__(self) -> None:
        self.folder = Folder(self.kind)

    def note(self, text: str) -> None:
        self.story.append(f"{asyncio.get_running_loop().time():8.3f}  {text}")

    # -- steps -----------------------------------------------------------------------------

    def site(self, step: Step) -> Site | None:
        return self.sites.get(NAMES[step.at])

    def _start(self, name: str, *, away: bool = False) -> None:
        log = logging.Logger("simulation")
        log.addHandler(self.record)
        site = self.sites[name] = Site(self.hub, self.folder, name, self.memory[name], log)
        assert self.path is not None
        site.start(self.path, away=away)

    @property
    def path(self) -> str | None:
        """Where the document's file is; None where it was deleted."""
        return next((p for p, disk in self.folder.files.items() if not disk.strangers), None)

    @property
    def disk(self) -> Disk:
        """The document's file; one that holds nothing where it was deleted."""
        return Disk("") if self.path is None else self.folder.files[self.path]

    @property
    def on_disk(self) -> str:
        """What matters of the file."""
        return self.kind.text(self.disk.content)

    def _all_know_where(self) -> bool:
        return all(
            site.open
            and site.transport.thawed.is_set()
            and site.link.room.shared
            and site.registry.api_path(FILE_ID) == self.path
            for site in self.sites.values()
        )

    def _knows_where(self, name: str, *, away: bool) -> bool:
        """Whether a replica that starts now could know which document the file is."""
        path = self.path
        if path is None or not self.left:
            return path is not None
        if self.memory[name].paths.get(FILE_ID) == path:
            return True
        told = self.hub.maps[Scope(ROOM.share), "paths"].get(FILE_ID) == path
        return told and not away

    async def take(self, step: Step) -> None:
        self.note(str(step))
        if step.what == "wait":
            await asyncio.sleep(PAUSES_S[step.size])
        elif step.what == "start":
            name, away = NAMES[step.at], step.size > 2
            if name not in self.sites and self._knows_where(name, away=away):
                self._start(name, away=away)
        elif step.what in WORLDLY:
            self._worldly(step)
        else:
            site = self.site(step)
            if site is not None:
                await self._local(step, site)
        for site in self.sites.values():
            if site._opening is not None and site._opening.done():
                site._opening.result()
        for site in [site for site in self.sites.values() if site.in_vain]:
            del self.sites[site.name]
            site.kill()

    def _worldly(self, step: Step) -> None:
        if step.what == "empty the hub":
            self.hub.clear()
            self._excuse()
        elif step.what == "trim the log":
            room = self.hub.rooms[ROOM]
            del room.entries[: max(0, len(room.entries) - step.size)]
            self._excuse()
        elif step.what == "lose the log's end":
            # As where a failover has lost what was acknowledged, but not what was said of the file.
            room = self.hub.rooms[ROOM]
            del room.entries[max(1, len(room.entries) - step.size) :]
            self._excuse()
        elif step.what == "fill the hub":
            self.hub.full = True
        elif step.what == "make the hub read-only":
            self.hub.read_only = True
        elif step.what == "mend the hub":
            self.hub.full = self.hub.read_only = False
            self.hub.wrong_type.clear()
        elif step.what == "another kind of key":
            self._replace_key(KEYS[step.size - 1])
        elif step.what == "forge":
            self._forge(step)
        elif step.what == "copy the hub":
            self.copied = self.hub.copy()
        elif step.what == "roll back the hub":
            if self.copied is not None:
                self.hub.roll_back(self.copied)
                self._excuse()
        elif step.what.startswith("outside") and self.path is None:
            pass  # nobody writes what was deleted
        elif step.what == "outside":
            token = f"<o{len(self.outside)}>"
            self.outside.append(token)
            self.disk.content = self.kind.changed(self.disk.content, token, step.size)
        elif step.what == "outside, what is there":
            # As JupyterLab itself does with "Overwrite". What only some have may be there twice.
            here = [s.text for s in self.sites.values() if s.open]
            texts = {text_of_log(self.hub, self.kind), *here}
            sharing = [s for s in self.sites.values() if s.open and len(texts) == 1]
            for site in sharing[: step.size][-1:]:
                before, self.disk.content = self.on_disk, site.document.get()
                # What nobody has looked at is overwritten, as by any program.
                self.excused |= {t for t in self.outside if t in before and t not in site.text}
                self._excuse()
        elif step.what == "another file at an old path":
            # Who is not cut off, and has not heard of the rename, takes it for the document's.
            known = [
                site.registry.api_path(FILE_ID)
                for site in self.sites.values()
                if not site.registry.is_catching_up
            ]
            if self.left and (path := self.left[-1]) not in [*self.folder.files, *known]:
                self.strangers[path] = self.kind.holding(f"<n{len(self.strangers)}>")
                self.folder.files[path] = Disk(self.strangers[path], strangers=True)
        elif step.what == "announce by offset":
            self.hub.inline_max_bytes = 0
        elif step.what == "delete outside":
            if self.path is not None and self._all_know_where():
                self._delete()
                del self.folder.files[self.path]
        elif step.what == "fill the disk":
            self.folder.full = True
        elif step.what == "mend the disk":
            self.folder.full = False
        else:
            for site in self.sites.values():
                if step.what == "cut all":
                    site.transport.disconnect()
                else:
                    site.heal()

    async def _local(self, step: Step, site: Site) -> None:
        transport = site.transport
        counts = {
            "refuse": "refusals",
            "lose replies": "lost_replies",
            "lose messages": "lost_messages",
            "repeat messages": "repeated_messages",
        }
        if step.what in counts:
            setattr(transport, counts[step.what], step.size)
        elif step.what == "type":
            # Whoever is frozen takes no keystroke; whoever has nothing open shows nothing.
            if site.open and transport.thawed.is_set():
                token = f"<{site.name}{len(self.typed)}>"
                self.typed[token] = site.name
                site.type(token, step.size)
        elif step.what == "send":
            if site.open and transport.thawed.is_set():
                await self._send(site, step.data)
        elif step.what == "deny":
            self.folder.denied ^= {site.name}
        elif step.what == "rename":
            if site.open and transport.thawed.is_set():
                before = set(self.folder.files)
                site.rename(f"file{len(self.left)}")
                self.left += before - set(self.folder.files)
        elif step.what == "delete":
            # Where some are cut off, it may be saved again there, as another document.
            if site.open and self._all_know_where() and self.path is not None:
                self._delete()
                site.delete()
        elif step.what == "save" and site.open:
            self.deleted = False
            self.asked_at = asyncio.get_running_loop().time()
            site.save()
        elif step.what == "kill":
            del self.sites[site.name]
            if site.registry._tasks:
                # It dies before it could even note what it has renamed: as if it had not.
                self._undo_renames(site)
            site.kill()
            self._excuse()
        elif step.what == "stop":
            if site.open and transport.thawed.is_set():
                del self.sites[site.name]
                await site.close()
                self._excuse()
        elif step.what == "freeze":
            site.freeze()
        elif step.what == "thaw":
            site.thaw()
        elif step.what == "cut":
            transport.disconnect()
        elif step.what == "heal":
            site.heal()
        elif step.what == "slow":
            transport.slow = not transport.slow
        elif step.what == "checkpoint" and site.open:
            site.link.spawn(site.link.checkpoints.write())

    async def _send(self, site: Site, message: bytes) -> None:
        await site.clients.take(message)
        if site.clients.failures:
            raise Wrong(f"a client's message fails with {site.clients.failures}")

    def _replace_key(self, key: str) -> None:
        """Somebody deletes a key of the document, and makes one of another kind of that name."""
        room = self.hub.rooms[ROOM]
        if key == "log":
            room.log = None
            room.entries.clear()
        elif key == "checkpoint":
            room.checkpoint, room.checkpoint_offset = None, ZERO_OFFSET
        elif key == "saved":
            self.hub.maps.pop((ROOM, "saved"), None)
        else:
            room.holder = None
        self.hub.wrong_type.add((ROOM, key))
        self._excuse()

    def _forge(self, step: Step) -> None:
        """Somebody who may write to the hub puts there what no server has."""
        room = self.hub.rooms[ROOM]
        payload = b"\0" + step.data if step.size % 2 else step.data
        if step.size <= 2:
            if room.log is not None and (ROOM, "log") not in self.hub.wrong_type:
                forger = MemorySyncTransport(self.hub)
                forger._append(ROOM, room, "nobody", payload)
        elif step.size == 3:
            if room.checkpoint is not None:
                room.checkpoint = payload
                self._excuse()
        else:
            junk = step.data.decode("latin-1")
            room.holder, room.held_until = "nobody", self.hub.clock() + FORGED_LEASE_S
            self.hub.maps[Scope(ROOM.share), "paths"][junk] = junk
            self.hub.beats[junk] = self.hub.clock()

    def _delete(self) -> None:
        """What only the file holds is about to be deleted with it."""
        # Who has just asked for it gets it all the same.
        self.deleted = asyncio.get_running_loop().time() - self.asked_at > ASKED_S
        here = [site.text for site in self.sites.values()]
        documents = [text_of_log(self.hub, self.kind), *here]
        self.excused |= {
            token
            for token in (*self.typed, *self.outside)
            if not any(token in text for text in documents)
        }

    def _undo_renames(self, site: Site) -> None:
        known = self.hub.maps[Scope(ROOM.share), "paths"].get(FILE_ID)
        for told in reversed(site.registry._untold.all):
            if told.new in self.folder.files and told.new != known:
                self.folder.files[told.old] = self.folder.files.pop(told.new)
        site.memory.untold.clear()

    def _excuse(self) -> None:
        """Something was destroyed: what is nowhere any more cannot be promised, and what only the
        file holds is promised to be in it or in a copy."""
        here = [site.text for site in self.sites.values()]
        documents = [text_of_log(self.hub, self.kind), *here]
        for token in self.typed:
            if any(token in text for text in documents):
                continue
            if token in self.on_disk:
                self.in_file_only.add(token)
            elif not any(token in str(copy) for copy in self.folder.copies):
                self.excused.add(token)

    # -- the end ---------------------------------------------------------------------------

    async def end(self) -> None:
        self.note("everything heals")
        self.hub.full = self.hub.read_only = self.folder.full = False
        self.hub.wrong_type.clear()
        self.folder.denied.clear()
        if not self.sites:
            name = next((n for n in NAMES if self._knows_where(n, away=False)), None)
            if name is None:
                return  # nobody is left who could know which document the file is
            self._start(name)
        for name, memory in self.memory.items():
            if memory.untold and name not in self.sites:
                # What it has renamed nobody else knows of.
                self._start(name)
        for site in self.sites.values():
            transport = site.transport
            site.thaw()
            transport.slow = False
            transport.refusals = transport.lost_replies = 0
            transport.lost_messages = transport.repeated_messages = 0
            site.heal()
        for site in list(self.sites.values()):
            await asyncio.wait_for(site.opened(), REOPEN_S)
            if site.in_vain:
                del self.sites[site.name]
                site.kill()
        if not self.sites:
            return
        await self._until(self._acquainted, "all know who lives")
        await self._until(lambda: not self._unequal(), "all replicas are equal")
        await self._until(lambda: len(self._paths()) == 1, "all know where the file is")
        everybody = self.sites.values()
        await self._until(lambda: all(s.link.shared for s in everybody), "all share it again")
        if self.deleted:
            await asyncio.sleep(SAVED_S)
            if self.path is not None:
                raise Wrong("what was deleted is there again by itself")
        if self.path is None:
            await self._until(self._saved_again, "what was deleted is saved again")
        await self._until(lambda: self.on_disk == self._text(), "the file holds the document")
        self._judge()
        for site in self.sites.values():
            await site.close()
        await asyncio.sleep(0.1)
        left = (
            [
                task.get_coro().__qualname__
                for task in asyncio.all_tasks()
                if task is not asyncio.current_task() and not task.cancelling()
            ]
            if hasattr(asyncio.Task, "cancelling")
            else []
        )
        if left:
            raise Wrong(f"tasks are left over: {left}")
        if self.on_disk != self._text():
            raise Wrong("the file is not what the document was when it was closed")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(int(HEAL_S / 0.5)):
            if condition():
                return
            await asyncio.sleep(0.5)
        raise Wrong(f"never: {what}; {self._unequal()}, file {self.on_disk!r}")

    def _text(self) -> str:
        return next(iter(self.sites.values())).text

    def _unequal(self) -> dict[str, str]:
        texts = {name: site.text for name, site in self.sites.items()}
        room = self.hub.rooms[ROOM]
        # A checkpoint may stand for an entry that the log has lost since.
        known = [room.checkpoint_offset, *(entry.offset for entry in room.entries[-1:])]
        tail = max(known, key=offset_key)
        settled = all(
            site.link.replicator.settled
            and (not room.entries or site.link.replicator.offset == tail)
            for site in self.sites.values()
        )
        return {} if settled and len(set(texts.values())) == 1 else texts

    def _saved_again(self) -> bool:
        if self.path is None:
            next(iter(self.sites.values())).save()
        return self.path is not None

    def _paths(self) -> set[str | None]:
        return {site.registry.api_path(FILE_ID) for site in self.sites.values()}

    def _acquainted(self) -> bool:
        alive = {site.replica.id for site in self.sites.values()}
        sessions = {site.replica.session for site in self.sites.values()}
        known = [site.replica.membership.alive for site in self.sites.values()]
        return len(sessions) == 1 and all(there == alive for there in known)

    def _judge(self) -> None:
        text, copies = self._text(), "".join(map(str, self.folder.copies))
        # A copy is for what another program and the users changed at the same time.
        for token in self.typed:
            kept = copies if self.outside or token in self.in_file_only else ""
            count = text.count(token)
            if count > 1:
                raise Wrong(f"{token} is there {count} times: {text!r}")
            if count == 0 and token not in self.excused and token not in kept:
                raise Wrong(f"{token} is lost: {text!r}, copies {copies!r}")
        for token in self.outside:
            count = text.count(token)
            if count > 1:
                raise Wrong(f"{token}, from outside, is there {count} times: {text!r}")
            if count == 0 and token not in self.excused and token not in copies:
                raise Wrong(f"{token}, from outside, is lost: {text!r}, copies {copies!r}")
        there = {path: disk.content for path, disk in self.folder.files.items() if disk.strangers}
        if there != self.strangers:
            raise Wrong(f"other files were written: {there}, not {self.strangers}")
        if not self._paths() <= set(self.folder.files):
            raise Wrong(f"the file is at {set(self.folder.files)}, not at {self._paths()}")
        if text.count("<seed>") != 1:
            raise Wrong(f"the seed is there {text.count('<seed>')} times: {text!r}")
        if self.record.errors:
            raise Wrong(f"logged: {self.record.errors}")


def carry_out(schedule: list[Step], kind: str = "text") -> Run:
    """Carry out a schedule from its beginning to its end, with a document of this kind.

    Raises:
        Wrong: with the story, if something is not as it must be.
    """
    run: Run | None = None

    async def main() -> None:
        nonlocal run
        run = Run(KINDS[kind])
        for name in NAMES[:2]:
            run._start(name)
        for step in schedule:
            await run.take(step)
        await run.end()

    try:
        run_virtually(main())
    except Exception as error:
        story = "\n".join(run.story) if run is not None else ""
        raise Wrong(f"{type(error).__name__}: {error}\na {kind}\n{story}") from error
    assert run is not None
    return run
