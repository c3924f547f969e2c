"""What a node says waits for its disk: dialogues of a keeper with a simulated one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from world import START_US

from kvlab.kv.answer import Batch
from kvlab.kv.keeper import Keeper, Policy, Work, life_of
from kvlab.kv.node import Node
from kvlab.kv.state import Settings
from kvlab.ring.slot import range_of
from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk import SimDisk
from kvlab.storage import log as log_module
from kvlab.storage.disk import DiskFailedError
from kvlab.storage.journal import Saved
from kvlab.storage.log import identity_of
from kvlab.storage.recovery import recover
from kvlab.wire.json_lines import PlainRequest, ReplyReader, Request
from kvlab.wire.peer import HELLO, Hello

RANGES = 16


class Kept:
    """A node alone, with a disk."""

    def __init__(self, policy: Policy = "always", disk: SimDisk | None = None) -> None:
        self.disk = disk or SimDisk(Clock(), Rng(1, "disk"))
        self.now_us = START_US
        saved = Saved(RANGES, lambda key: range_of(key, RANGES))
        self.recovery = recover(self.disk, identity_of("test", "server1"), Rng(2), saved.apply)
        self.life = life_of(saved, self.recovery, policy=policy, machine="m")
        settings = Settings(
            id="server1",
            cluster="test",
            address="server1:1",
            client_address="server1:1",
            boot=self.life or self.now_us,
            range_count=RANGES,
        )
        self.node = Node(settings, self.now_us, saved)
        self.keeper = Keeper(self.node, self.recovery, saved.meta, policy=policy, machine="m")
        begun = self.keeper.begin()
        if begun is not None:
            begun.run()
            self.keeper.log.end_sync(begun)
        self.node.membership.alone(self.now_us)
        self.heard: list[tuple[str, bytes | None]] = []
        self.turn()

    def set(self, who: str, key: str, value: str) -> None:
        """A client writes; its reply is said, and the turn goes on."""
        self.now_us += 10
        request = PlainRequest("SET", key, value)
        self.keeper.say(who, self.node.serve_alone([request], self.now_us, camel=False))

    def fail_to_sync(self, who: str) -> tuple[Work, DiskFailedError]:
        """A client writes, and the disk fails; the node has not been told yet."""
        self.disk.faults.fail("sync")
        self.set(who, "k", "1")
        assert self.keeper.end_turn() == []
        work = self.keeper.take_work(self.now_us)
        assert work is not None
        with pytest.raises(DiskFailedError) as failure:
            work.run()
        return work, failure.value

    def fill(self) -> None:
        """Write until the disk, which has no room, has made the node refuse."""
        self.disk.faults.limit_capacity(self.disk.used_bytes)
        while not self.node.state.refusal:
            self.set("a", "k", "x" * 100_000)
            self.turn()

    def turn(self) -> None:
        """End the turn, and let the disk do what it is asked for until it has nothing to do."""
        self.heard += self.keeper.end_turn()
        while (work := self.keeper.take_work(self.now_us)) is not None:
            try:
                work.run()
            except DiskFailedError as error:
                self.heard += self.keeper.work_done(work, error)
            else:
                self.heard += self.keeper.work_done(work)

    @property
    def said_to(self) -> list[str]:
        return [who for who, _ in self.heard]

    def value(self, key: str) -> str | bytes | None:
        record = self.node.state.table.get(range_of(key.encode(), RANGES), key.encode())
        return None if record is None else record[1]


def test_nothing_is_said_before_the_disk_has_it_and_then_all_in_order() -> None:
    kept = Kept()
    kept.set("a", "k", "1")
    kept.heard += kept.keeper.end_turn()
    work = kept.keeper.take_work(kept.now_us)
    assert work is not None
    kept.set("b", "k", "2")
    kept.keeper.say("c", b"a read, later")
    kept.heard += kept.keeper.end_turn()
    assert kept.heard == []
    assert kept.keeper.take_work(kept.now_us) is None, "one sync at a time"

    work.run()
    kept.heard += kept.keeper.work_done(work)
    assert kept.said_to == ["a"]
    kept.turn()

    assert kept.said_to == ["a", "b", "c"]


def test_one_sync_serves_all_that_waited() -> None:
    kept = Kept()
    before = kept.disk.counts.calls["sync"]
    for number in range(50):
        kept.set(f"client{number}", "k", str(number))
    kept.turn()

    assert len(kept.heard) == 50
    assert kept.disk.counts.calls["sync"] == before + 1


@pytest.mark.parametrize("policy", ["interval", "os"])
def test_where_nobody_waits_for_the_disk_the_log_still_comes_first(policy: Policy) -> None:
    kept = Kept(policy)
    kept.set("a", "k", "1")

    assert [who for who, _ in kept.keeper.end_turn()] == ["a"]
    kept.disk.kill()
    assert Kept(policy, kept.disk).value("k") == "1"


def test_a_life_goes_on_with_its_data_and_gives_no_version_twice() -> None:
    kept = Kept()
    kept.set("a", "k", "1")
    kept.turn()
    last = kept.node.state.clock.last
    kept.disk.kill()

    again = Kept(disk=kept.disk)

    assert again.life == kept.node.state.settings.boot
    assert again.node.membership.is_member
    assert again.value("k") == "1"
    assert again.node.state.clock.next(START_US - 10**9) > last


def test_a_sync_that_fails_cuts_those_who_wait_and_the_node_only_reads() -> None:
    kept = Kept()
    kept.disk.faults.fail("sync")
    kept.set("a", "k", "1")
    kept.turn()

    assert kept.heard == []
    assert kept.keeper.aborts == ["a"]
    assert "started again" in kept.node.state.refusal
    kept.keeper.say("b", b"a read")
    kept.turn()
    assert kept.said_to == ["b"]


def test_whoever_still_waits_for_a_reply_when_a_sync_fails_is_cut_too() -> None:
    # rotting 29, swarm 301: a reply that was finished and not yet said, or that had a part of it done,
    # left when the rest had ended.
    kept = Kept()
    work, failure = kept.fail_to_sync("a")
    kept.keeper.say("b", b"an acknowledgement")
    kept.node.quorum.finished.append(Batch(SimpleNamespace(conn="c"), "", 0, camel=False))

    assert kept.keeper.work_done(work, failure) == []

    assert sorted(kept.keeper.aborts) == ["a", "b", "c"]
    assert kept.keeper.end_turn() == []


def test_without_room_a_turn_is_cut_and_writes_come_back_with_the_room() -> None:
    kept = Kept()
    kept.fill()
    assert kept.keeper.aborts == ["a"]
    assert not kept.node.state.solo, "the way past the check of writes is closed"
    for _ in range(5):
        kept.keeper.tick()
        kept.keeper.say("b", b"a read")
        kept.turn()
    assert kept.said_to[-5:] == ["b"] * 5

    kept.disk.faults.heal()
    kept.keeper.tick()

    assert not kept.node.state.refusal
    assert kept.node.state.solo
    kept.set("c", "k", "after")
    kept.turn()
    kept.disk.power_cut(Rng(3))
    assert Kept(disk=kept.disk).value("k") == "after"


def test_nobody_overtakes_those_who_wait_for_a_sync_that_fails() -> None:
    # rotting 52: the log failed under a later turn first, and what was said then left before that.
    kept = Kept()
    work, failure = kept.fail_to_sync("a")

    kept.set("b", "k", "2")
    assert kept.keeper.end_turn() == []
    assert sorted(kept.keeper.aborts) == ["a", "b"]
    assert kept.keeper.work_done(work, failure) == []


def test_what_the_disk_may_never_have_is_not_read() -> None:
    # Swarm 4929, one copy: a value was read that a sync had failed to keep, and a restart took it back.
    kept = Kept()
    kept.set("a", "kept", "1")
    kept.turn()
    kept.disk.faults.fail("sync")
    kept.set("a", "lost", "2")
    kept.turn()

    world_now = kept.now_us + 10
    batch = kept.node.receive(None, [Request("GET", "lost"), Request("GET", "kept")], world_now)
    lost, good = ReplyReader().feed(batch.encode())

    assert (lost.code, lost.value) == ("UNAVAILABLE", "")
    assert "may not have kept" in lost.error
    assert (good.status, good.value) == ("SUCCESS", "1")


def test_what_waits_for_room_is_read_again_when_there_is_some() -> None:
    kept = Kept()
    kept.fill()
    assert kept.node.state.doubtful == {b"k"}

    kept.disk.faults.heal()
    kept.keeper.tick()

    assert not kept.node.state.doubtful


def test_writes_come_back_with_whatever_there_was_room_for() -> None:
    # rotting 212: what else a node had to keep went well, and it never took writes again.
    kept = Kept()
    kept.fill()
    kept.disk.faults.heal()

    kept.node.state.remember("votes", [])
    kept.turn()

    assert not kept.node.state.refusal


def test_a_node_remembers_the_lives_of_its_peers() -> None:
    # rotting 145: a founder without its data met only such as had been started again since, was told
    # of no life before its own, and took itself for one that had never run.
    kept = Kept()
    hello = Hello(HELLO, "test", "server2", START_US, 1, RANGES, "server1", 0, "server2:1")
    kept.node.link_up(hello, kept.now_us)
    kept.turn()
    kept.disk.kill()

    again = Kept(disk=kept.disk)

    assert again.node.hello("server2").known_boot == START_US
    code, _ = again.node.why_refuse(replace(hello, boot=START_US - 1))
    assert code == "old"


def test_a_life_that_was_no_member_does_not_go_on() -> None:
    # The same seed: killed before it was taken in again, it had forgotten that there was an earlier.
    disk = Kept().disk
    disk.kill()
    member = Kept(disk=disk)
    assert member.life
    member.node.state.remember("map", [False, None])
    member.turn()
    disk.kill()

    assert Kept(disk=disk).life == 0


def test_a_log_that_has_grown_gives_way_to_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SNAPSHOT_BYTES_MIN", 50_000)
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 20_000)
    for policy in ("always", "os"):
        kept = Kept(policy)
        for number in range(200):
            kept.set("a", f"k{number % 20}", str(number).ljust(1000, "."))
            kept.turn()
            kept.keeper.tick()
        kept.turn()

        assert any(name.startswith("snapshot") for name in kept.disk.names())
        assert len(kept.disk.names()) < 8
        assert kept.disk.open_files < 8
        kept.disk.kill()
        again = Kept(policy, kept.disk)
        assert [again.value(f"k{key}")[:3] for key in range(20)] == [
            str(180 + key) for key in range(20)
        ]


def test_a_damaged_log_begins_a_new_life_that_is_whole_on_disk_again() -> None:
    kept = Kept()
    for number in range(5):
        kept.set("a", f"k{number}", "v")
        kept.turn()
    kept.disk.flip_bit("log-000000000001", 100, 1)
    kept.disk.kill()

    again = Kept(disk=kept.disk)

    assert again.recovery.damage
    assert again.life == 0
    assert not again.node.membership._restored
    for _ in range(3):
        again.keeper.tick()
        again.turn()
    again.disk.kill()
    assert Kept(disk=kept.disk).recovery.damage == []


@pytest.mark.parametrize(("policy", "goes_on"), [("always", True), ("interval", False)])
def test_what_was_not_waited_for_ends_a_life_when_the_machine_goes_down(
    policy: Policy, goes_on: bool
) -> None:
    kept = Kept(policy)
    saved = Saved(RANGES, lambda key: range_of(key, RANGES))
    kept.disk.kill()
    recovery = recover(kept.disk, identity_of("test", "server1"), Rng(2), saved.apply)

    assert bool(life_of(saved, recovery, policy=policy, machine="another time")) == goes_on
    # ... but where all members were on it: nobody is left to fill the next life.
    assert life_of(saved, recovery, policy=policy, machine="another time", together=True)
    recovery.damage.append("a place")
    assert not life_of(saved, recovery, policy=policy, machine="m", together=True)
