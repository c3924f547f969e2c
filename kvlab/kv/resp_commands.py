"""The commands of RESP clients: a table of all that are there, and those on data. No I/O, no order.

Operations on keys go to the coordinator as those of JSON do. What the store cannot do truthfully is
refused by name (resp_refused.py), never emulated.

Invariants:

1. A command looks at all its arguments before it begins anything: one that is refused for what it
   says has changed nothing.
2. COMMAND tells exactly the commands that are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kvlab.kv import resp_linear
from kvlab.kv.resp_answer import (
    Count,
    Deleted,
    Kind,
    Length,
    RespBatch,
    Several,
    Values,
    Written,
    as_stored,
    failure,
)
from kvlab.kv.resp_cluster import cluster
from kvlab.kv.resp_connection import (
    auth,
    client_command,
    echo,
    hello,
    ping,
    quit_,
    ready_only,
    reset,
    select,
)
from kvlab.kv.resp_expiry import (
    MS_US,
    SECOND_US,
    expire,
    getex,
    persist,
    remaining,
    set_options,
    setex,
)
from kvlab.kv.resp_flush import flush
from kvlab.kv.resp_refused import CONDITIONAL, refusal
from kvlab.kv.resp_scan import scan
from kvlab.kv.resp_server import config, dbsize, info, time_
from kvlab.kv.resp_words import shown, wrong_count
from kvlab.storage.memory import Value
from kvlab.wire.limits import KEY_LIMIT_BYTES, VALUE_LIMIT_BYTES
from kvlab.wire.peer import DELETE, READ
from kvlab.wire.resp_encode import NULL, OK, encode, error, integer
from kvlab.wire.value import Expiring

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

# Takes (client, batch, args, now_us), and returns its reply, or None if it has begun operations
# whose places in the batch make it.
Handler = Callable[["RespClient", RespBatch, list[bytes], int], bytes | None]


class Command(NamedTuple):
    """A command that is there; the numbers are those that COMMAND tells."""

    run: Handler
    arity: int  # with its name; negative: so many or more
    flags: str = "fast"
    first_key: int = 0
    last_key: int = 0  # -1: the last argument
    step: int = 0


def run(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> None:
    """Do one request, or begin it."""
    name = args[0]
    command = COMMANDS.get(name)
    if command is None:
        name = name.upper()
        command = COMMANDS.get(name)
    if client.in_refused_multi and name not in OUT_OF_MULTI:
        reply: bytes | None = _in_refused_multi(client, name)
    elif command is None:
        if name == b"MULTI":
            client.in_refused_multi = client.turn = True
        reply = refusal(name, args)
    elif len(args) != command.arity and (command.arity > 0 or len(args) < -command.arity):
        reply = wrong_count(name)
    else:
        reply = command.run(client, batch, args, now_us)
    if reply is None:  # others make it, or it comes with a later batch
        return
    batch.replies.append(reply)
    if reply[:1] == b"-" and not reply.startswith(b"-UNAVAILABLE"):
        client.node.state.counters["bad_requests"] += 1


OUT_OF_MULTI = (b"QUIT", b"RESET")


def _in_refused_multi(client: RespClient, name: bytes) -> bytes:
    """Refuse what belongs to a transaction that was refused, so that no half of it happens."""
    if name == b"DISCARD":
        client.in_refused_multi, client.turn = False, True
        return OK
    if name == b"EXEC":
        client.in_refused_multi, client.turn = False, True
        return error("EXECABORT Transaction discarded because MULTI was refused; nothing was done")
    return error("ERR not done, as MULTI was refused; EXEC, DISCARD or RESET ends the transaction")


# -- data -----------------------------------------------------------------------------------------


def _get(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes | None:
    if problem := _problem(client, args[1:]):
        return problem
    if client.db == resp_linear.DB:
        resp_linear.get(client, batch, args, now_us)
        return None
    batch.replies.append(NULL[batch.protocol])
    client.node.coordinator.operate(batch, args[1], READ, now_us)
    return None


def _set(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes | None:
    if problem := _problem(client, args[1:2], args[2:3]):
        return problem
    value: Value = as_stored(args[2])
    flags = 0
    if len(args) > 3:
        options = set_options(args[3:], now_us)
        if isinstance(options, bytes):
            return options
        flags, at_us = options
        if at_us:
            value = Expiring(as_stored(args[2]), at_us)
    if client.db == resp_linear.DB:
        resp_linear.set_(client, batch, args[1], value, flags, now_us)
        return None
    if flags:
        named = shown(b" ".join(args[3:]).upper())
        return error(f"ERR SET {named}: {CONDITIONAL}")
    batch.replies.append(OK)
    client.node.coordinator.operate(batch, args[1], value, now_us)
    return None


def _mset(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes | None:
    if len(args) % 2 == 0:
        return wrong_count(b"MSET")
    keys, values = args[1::2], args[2::2]
    if problem := _problem(client, keys, values):
        return problem
    several = batch.begin(Written(len(keys)))
    for key, value in zip(keys, values, strict=True):
        batch.replies.append(several)
        _operate(client, batch, key, as_stored(value), now_us)
    return None


def _each_key(make: Callable[[int], Several], value: Any) -> Handler:
    """Return the handler of a command that does one operation with each of its keys."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        keys = args[1:]
        if problem := _problem(client, keys):
            return problem
        several = batch.begin(make(len(keys)))
        for key in keys:
            batch.replies.append(several)
            _operate(client, batch, key, value, now_us)
        return None

    return handler


def _operate(client: RespClient, batch: RespBatch, key: bytes, value: Any, now_us: int) -> None:
    """Begin one operation of several, in the namespace that the client has selected."""
    if client.db == resp_linear.DB:
        resp_linear.operate(client, batch, key, value, now_us)
    else:
        client.node.coordinator.operate(batch, key, value, now_us)


def _checked(run_it: Handler) -> Handler:
    """Return the handler of a command with a key and, at its end, a value."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        return _problem(client, args[1:2], args[3:4]) or run_it(client, batch, args, now_us)

    return handler


def _linear(run_it: Handler) -> Handler:
    """Return the handler of a command that only the linear namespace has, with a key and a value."""

    def handler(
        client: RespClient, batch: RespBatch, args: list[bytes], now_us: int
    ) -> bytes | None:
        if client.db != resp_linear.DB:
            return error(f"ERR {args[0].upper().decode()}: {CONDITIONAL}")
        if problem := _problem(client, args[1:2], args[2:3]):
            return problem
        return run_it(client, batch, args, now_us)

    return handler


def _problem(client: RespClient, keys: list[bytes], values: list[bytes] | None = None) -> bytes:
    """Return why operations on keys cannot begin; b"" if they can."""
    for key in keys:
        if len(key) > KEY_LIMIT_BYTES:
            return _too_large("key", key, KEY_LIMIT_BYTES)
        if not key.isascii() and not _is_text(key):
            return error(
                "ERR a key must be UTF-8 here, as JSON clients name it too; values need not"
            )
    for value in values or ():
        if len(value) > VALUE_LIMIT_BYTES:
            return _too_large("value", value, VALUE_LIMIT_BYTES)
    node = client.node
    if not node.state.is_open:
        return failure(node.state.why_closed, node.membership.starting())
    return b""


def _too_large(what: str, data: bytes, limit: int) -> bytes:
    return failure("TOO_LARGE", f"the {what} has {len(data)} bytes; the limit is {limit}")


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


# -- about commands -------------------------------------------------------------------------------


def _command(_client: RespClient, batch: RespBatch, args: list[bytes], _now_us: int) -> bytes:
    protocol = batch.protocol
    if len(args) == 1:
        return encode([_entry(name, one) for name, one in COMMANDS.items()], protocol)
    match args[1].upper():
        case b"COUNT" if len(args) == 2:
            return integer(len(COMMANDS))
        case b"DOCS":
            return encode({}, protocol)
        case b"LIST" if len(args) == 2:
            return encode([name.lower() for name in COMMANDS], protocol)
        case b"INFO":
            names = [name.upper() for name in args[2:]] or list(COMMANDS)
            return encode(
                [_entry(name, COMMANDS[name]) if name in COMMANDS else None for name in names],
                protocol,
            )
        case b"GETKEYS" if len(args) > 2:
            return _keys_of(args[2:], protocol)
    return error(f"ERR unknown subcommand or wrong number of arguments for '{shown(args[1])}'")


def _keys_of(args: list[bytes], protocol: int) -> bytes:
    command = COMMANDS.get(args[0].upper())
    if command is None or not command.first_key:
        return error("ERR the command has no key arguments, or is not there")
    if len(args) != command.arity and (command.arity > 0 or len(args) < -command.arity):
        return error("ERR Invalid number of arguments specified for command")
    last = len(args) if command.last_key < 0 else command.last_key + 1
    return encode(args[command.first_key : last : command.step], protocol)


def _entry(name: bytes, one: Command) -> list[Any]:
    """Return what COMMAND tells of one command: as Redis 7 does, with its last lists empty."""
    keys = [one.first_key, one.last_key, one.step]
    return [name.lower().decode(), one.arity, one.flags.split(), *keys, [], [], [], []]


# Every command that is there. What is refused with a reason is in resp_refused.py.
COMMANDS: dict[bytes, Command] = {
    b"GET": Command(_get, 2, "readonly fast", 1, 1, 1),
    b"SET": Command(_set, -3, "write denyoom", 1, 1, 1),
    b"DEL": Command(_each_key(Deleted, DELETE), -2, "write", 1, -1, 1),
    b"UNLINK": Command(_each_key(Deleted, DELETE), -2, "write fast", 1, -1, 1),
    b"EXISTS": Command(_each_key(Count, READ), -2, "readonly fast", 1, -1, 1),
    b"MGET": Command(_each_key(Values, READ), -2, "readonly fast", 1, -1, 1),
    b"MSET": Command(_mset, -3, "write denyoom", 1, -1, 2),
    b"STRLEN": Command(_each_key(Length, READ), 2, "readonly fast", 1, 1, 1),
    b"TYPE": Command(_each_key(Kind, READ), 2, "readonly fast", 1, 1, 1),
    b"SCAN": Command(scan, -2, "readonly"),
    b"FLUSHDB": Command(flush, -1, "write"),
    b"FLUSHALL": Command(flush, -1, "write"),
    b"SETEX": Command(_checked(setex(SECOND_US)), 4, "write denyoom", 1, 1, 1),
    b"PSETEX": Command(_checked(setex(MS_US)), 4, "write denyoom", 1, 1, 1),
    b"TTL": Command(_checked(remaining(SECOND_US)), 2, "readonly fast", 1, 1, 1),
    b"PTTL": Command(_checked(remaining(MS_US)), 2, "readonly fast", 1, 1, 1),
    b"EXPIRETIME": Command(
        _checked(remaining(SECOND_US, absolute=True)), 2, "readonly fast", 1, 1, 1
    ),
    b"PEXPIRETIME": Command(_checked(remaining(MS_US, absolute=True)), 2, "readonly fast", 1, 1, 1),
    b"EXPIRE": Command(_linear(expire(SECOND_US)), 3, "write fast", 1, 1, 1),
    b"PEXPIRE": Command(_linear(expire(MS_US)), 3, "write fast", 1, 1, 1),
    b"EXPIREAT": Command(_linear(expire(SECOND_US, absolute=True)), 3, "write fast", 1, 1, 1),
    b"PEXPIREAT": Command(_linear(expire(MS_US, absolute=True)), 3, "write fast", 1, 1, 1),
    b"PERSIST": Command(_linear(persist), 2, "write fast", 1, 1, 1),
    b"GETEX": Command(_checked(getex), -2, "write fast", 1, 1, 1),
    b"SETNX": Command(_linear(resp_linear.setnx), 3, "write denyoom fast", 1, 1, 1),
    b"GETSET": Command(_linear(resp_linear.getset), 3, "write denyoom fast", 1, 1, 1),
    b"GETDEL": Command(_linear(resp_linear.getdel), 2, "write fast", 1, 1, 1),
    b"APPEND": Command(_linear(resp_linear.append), 3, "write denyoom fast", 1, 1, 1),
    b"INCR": Command(_linear(resp_linear.counter(1)), 2, "write denyoom fast", 1, 1, 1),
    b"INCRBY": Command(_linear(resp_linear.counter(1)), 3, "write denyoom fast", 1, 1, 1),
    b"DECR": Command(_linear(resp_linear.counter(-1)), 2, "write denyoom fast", 1, 1, 1),
    b"DECRBY": Command(_linear(resp_linear.counter(-1)), 3, "write denyoom fast", 1, 1, 1),
    b"PING": Command(ping, -1),
    b"ECHO": Command(echo, 2),
    b"HELLO": Command(hello, -1),
    b"AUTH": Command(auth, -2),
    b"SELECT": Command(select, 2),
    b"CLIENT": Command(client_command, -2),
    b"RESET": Command(reset, 1),
    b"QUIT": Command(quit_, -1),
    b"READONLY": Command(ready_only, 1),
    b"READWRITE": Command(ready_only, 1),
    b"ASKING": Command(ready_only, 1),
    b"INFO": Command(info, -1),
    b"CONFIG": Command(config, -2),
    b"COMMAND": Command(_command, -1),
    b"DBSIZE": Command(dbsize, 1),
    b"TIME": Command(time_, 1),
    b"CLUSTER": Command(cluster, -2),
}
