"""The disk of one simulated machine, with a cache that a power cut loses as real ones are lost.

It is no model of one file system: it leaves what any of them may leave, so what recovers from it
recovers from all. What becomes of the bytes of a file is `pages`', what goes wrong is `disk_faults`'.
The disk outlives the processes that use it.

Calls return at once. The disk works one sync after the other and takes the time that its faults give
it; `done_us` is when all work so far is done. Whoever calls for a process (its host) lets the caller
hear of the result then, a failure too. As long as no time was asked for, it is now.

Invariants, beside those of `storage.disk`:

1. A sync counts from the moment it is done, and covers what was there when it was called.
2. After a power cut, the names are those after some number of the creates, renames and removes since
   the last `sync_dir` that is done; each file's bytes are lost or left apart from all others'.
3. `kill` loses nothing. A File of a process that has ended is closed.
4. An append that meets the end of the disk writes what fits, takes that back and raises; only a power
   cut finds the part again.
5. Everything follows from the calls and the Rngs handed in.
"""

from __future__ import annotations

from kvlab.rng import Rng
from kvlab.sim.clock import Clock
from kvlab.sim.disk_faults import Call, Counts, Failure, Faults, Stopped
from kvlab.sim.pages import Loss, Pages
from kvlab.storage.disk import (
    Bytes,
    Disk,
    DiskFailedError,
    DiskFullError,
    File,
    FileMissingError,
    FileTakenError,
    OutOfFilesError,
    check_name,
)

BYTE_BITS = 8


class SimFile(File):
    """An open file of a SimDisk."""

    def __init__(self, disk: SimDisk, name: str, pages: Pages) -> None:
        self.pages = pages
        self._disk = disk
        self._name = name
        self._end = pages.size
        self._failed = False
        self._closed = False

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self._name

    @property
    def end(self) -> int:
        """Where the next append goes."""
        return self._end

    @property
    def size(self) -> int:
        """The bytes of the file, by whomever they were written."""
        self._check_open()
        return self.pages.size

    def append(self, data: Bytes) -> int:
        """Write all of it at `end`, or raise and leave nothing."""
        pages, at = self.pages, self._end
        data = bytes(data)
        self._check_writable()
        # What is reserved beyond the end is ours already.
        fits = max(0, pages.size - at) + self._disk.room_bytes
        try:
            self._meet("append")
        except Stopped as stop:
            pages.write(at, data[: min(fits, int(stop.share * len(data)))])
            raise
        if len(data) > fits:
            size = pages.size
            pages.write(at, data[:fits])
            pages.resize(size)
            pages.write(at, bytes(min(fits, size - at)))
            raise self._disk.full(f"append to {self._name}")
        pages.write(at, data)
        self._end = at + len(data)
        return at

    def read_at(self, offset: int, size: int) -> bytes:
        """Read as much as there is."""
        self._check_open()
        if offset < 0 or size < 0:
            raise ValueError("a read begins in the file and has a size")
        if self._disk.meet("read", self._name):
            raise DiskFailedError(f"cannot read {self._name}")
        return self.pages.seen.read(offset, size)

    def truncate(self, size: int) -> None:
        """Cut the file."""
        self._check_writable()
        if not 0 <= size <= self.pages.size:
            raise ValueError(f"{self._name} has {self.size} bytes; it cannot be cut to {size}")
        self._meet("truncate")
        self.pages.resize(size)
        self._end = size

    def preallocate(self, size: int) -> None:
        """Reserve room for appends."""
        self._check_writable()
        self._meet("preallocate")
        more = size - self.pages.size
        if more > self._disk.room_bytes:
            raise self._disk.full(f"reserve room for {self._name}")
        if more > 0:
            self.pages.resize(size)

    def sync(self) -> None:
        """Begin to make the bytes durable; they are at the disk's `done_us`."""
        self._check_writable()
        failure = self._disk.meet("sync", self._name)
        self._disk.work()
        if failure is None:
            self._disk.sync_pages(self.pages)
            return
        self._failed = True
        self._disk.fail_pages(self.pages, failure)
        raise DiskFailedError(f"cannot sync {self._name}")

    def close(self) -> None:
        """Give it back."""
        if not self._closed:
            self._closed = True
            self._disk.release(self)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self._name} is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._failed:
            raise DiskFailedError(f"{self._name} failed before; what it holds is unknown")

    def _meet(self, call: Call) -> None:
        if self._disk.meet(call, self._name):
            self._failed = True
            raise DiskFailedError(f"cannot {call} {self._name}")


class SimDisk(Disk):
    """The disk of one machine, and the Disk of the process that runs there."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        """Draw times, failures and stops from `rng`; power cuts bring their own."""
        self.faults = Faults(rng)
        self.counts = Counts()
        self._clock = clock
        self._rng = rng
        self._done_us = 0
        # The names as they are on the disk, and after each change since; the last is what is seen.
        self._names: list[dict[str, Pages]] = [{}]
        self._gone = 0  # changes before the first of these
        self._covers: list[tuple[int, int]] = []  # (when a sync_dir is done, changes it covers)
        self._open: dict[SimFile, None] = {}
        self._failed = False

    # -- what a process asks for ----------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """List the files."""
        self._check("names")
        self._check_open_files()
        return tuple(sorted(self._names[-1]))

    def create(self, name: str) -> SimFile:
        """Make a file."""
        check_name(name)
        self._check("create", name)
        self._check_open_files()
        if name in self._names[-1]:
            raise FileTakenError(f"cannot create {name}: there is such a file")
        pages = Pages()
        self._names.append({**self._names[-1], name: pages})
        return self._opened(name, pages)

    def open(self, name: str) -> SimFile:
        """Open a file to read and append."""
        check_name(name)
        self._check("open", name)
        self._check_open_files()
        return self._opened(name, self._find(name))

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, at once."""
        check_name(old)
        check_name(new)
        self._check("rename", old)
        pages = self._find(old)
        if old != new:
            others = {name: one for name, one in self._names[-1].items() if name != old}
            self._names.append({**others, new: pages})

    def remove(self, name: str) -> None:
        """Remove a file."""
        check_name(name)
        self._check("remove", name)
        self._find(name)
        self._names.append({one: pages for one, pages in self._names[-1].items() if one != name})

    def sync_dir(self) -> None:
        """Begin to make the names durable; they are at `done_us`."""
        if self._failed:
            raise DiskFailedError("the folder failed before; which files it holds is unknown")
        failure = self.meet("sync_dir", "")
        self.work()
        if failure is not None:
            self._failed = True
            raise DiskFailedError("cannot sync the folder")
        self._covers.append((self._done_us, self._gone + len(self._names) - 1))
        self._settle()

    # -- what its host asks for -----------------------------------------------------------------

    @property
    def done_us(self) -> int:
        """When all that was asked so far is done: now, or later."""
        return max(self._clock.now_us, self._done_us)

    def kill(self) -> None:
        """The process ends. What it wrote is with the system, which writes it when it likes."""
        self.counts.kills += 1
        self._end_process()

    def power_cut(self, rng: Rng) -> None:
        """The machine loses its power: what was not synced is there, in part, or not."""
        self.counts.power_cuts += 1
        self._end_process()
        self._settle()
        self._done_us = self._clock.now_us
        left = rng.randrange(len(self._names))
        self.counts.lost_names += len(self._names) - 1 - left
        self._set_names(self._names[left])
        for _, pages in sorted(self._names[0].items()):
            self._count(pages.lose(self._clock.now_us, rng))

    def wipe(self) -> None:
        """The machine gets an empty disk."""
        self.counts.wipes += 1
        self._end_process()
        self._set_names({})

    def drop_caches(self) -> None:
        """The system forgets all that it need not write: reads see what the disk has."""
        for pages in self._names[-1].values():
            pages.evict()

    def flip_bit(self, name: str, offset: int, bit: int) -> None:
        """Turn one bit of a file over, on the disk and for readers. FileMissingError."""
        pages = self._find(name)
        if not (0 <= offset < pages.size and 0 <= bit < BYTE_BITS):
            raise ValueError(f"{name} has {pages.size} bytes of {BYTE_BITS} bits")
        pages.flip(offset, bit)
        self.counts.flipped_bits += 1

    def flip_random_bit(self, rng: Rng, name: str | None = None) -> tuple[str, int, int] | None:
        """Turn a bit over among those written (of one file or all); return it, None if none is."""
        files = self.written().items()
        sizes = {one: size for one, size in files if size and name in {None, one}}
        if not sizes:
            return None
        chosen = rng.choices(list(sizes), weights=list(sizes.values()))[0]
        offset, bit = rng.randrange(sizes[chosen]), rng.randrange(BYTE_BITS)
        self.flip_bit(chosen, offset, bit)
        return chosen, offset, bit

    def written(self) -> dict[str, int]:
        """Return how many bytes of each file were written, what is only reserved left out."""
        return {one: len(pages.seen.data) for one, pages in sorted(self._names[-1].items())}

    @property
    def open_files(self) -> int:
        """The files that the process has open."""
        return len(self._open)

    @property
    def used_bytes(self) -> int:
        """The bytes of all files, reserved and removed but open ones included."""
        files = dict.fromkeys([*self._names[-1].values(), *(one.pages for one in self._open)])
        return sum(pages.size for pages in files)

    # -- what its files ask for -----------------------------------------------------------------

    @property
    def room_bytes(self) -> int:
        """The bytes that the disk can take yet."""
        if self.faults.capacity_bytes is None:
            return 1 << 62
        return max(0, self.faults.capacity_bytes - self.used_bytes)

    def meet(self, call: Call, name: str) -> Failure | None:
        """Count a call, and say how it fails, if it does. Raise Stopped."""
        failure = self.faults.meet(call, name)
        self.counts.calls[call] += 1
        if failure is not None:
            self.counts.failures[call] += 1
        return failure

    def work(self) -> None:
        """Take the time of a sync."""
        self._done_us = self.done_us + self.faults.sync_us()

    def sync_pages(self, pages: Pages) -> None:
        """Make the bytes of a file durable when the work is done."""
        pages.sync(self._clock.now_us, self._done_us)

    def fail_pages(self, pages: Pages, failure: Failure) -> None:
        """Lose what a sync could not write."""
        self._count(pages.fail(self._rng, keep=failure.keep))

    def full(self, doing: str) -> DiskFullError:
        """Count and return the error of a full disk."""
        self.counts.full += 1
        return DiskFullError(f"cannot {doing}: no space left")

    def release(self, file: SimFile) -> None:
        """A file was closed."""
        self._open.pop(file, None)

    # -- inside ---------------------------------------------------------------------------------

    def _opened(self, name: str, pages: Pages) -> SimFile:
        file = SimFile(self, name, pages)
        self._open[file] = None
        return file

    def _find(self, name: str) -> Pages:
        pages = self._names[-1].get(name)
        if pages is None:
            raise FileMissingError(f"there is no file {name}")
        return pages

    def _check(self, call: Call, name: str = "") -> None:
        if self.meet(call, name):
            raise DiskFailedError(f"cannot {call} {name}".rstrip())

    def _check_open_files(self) -> None:
        most = self.faults.open_files_max
        if most is not None and len(self._open) >= most:
            self.counts.out_of_files += 1
            raise OutOfFilesError("too many open files")

    def _settle(self) -> None:
        now_us = self._clock.now_us
        covered = max((count for done, count in self._covers if done <= now_us), default=0)
        if covered > self._gone:
            del self._names[: covered - self._gone]
            self._gone = covered
        self._covers = [cover for cover in self._covers if cover[1] > self._gone]

    def _set_names(self, names: dict[str, Pages]) -> None:
        self._gone += len(self._names) - 1
        self._names = [names]
        self._covers.clear()

    def _end_process(self) -> None:
        for file in list(self._open):
            file.close()
        self._failed = False
        self.faults.resume()

    def _count(self, loss: Loss) -> None:
        self.counts.lost_bytes += loss.bytes
        self.counts.torn_writes += loss.torn
