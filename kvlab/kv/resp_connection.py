"""RESP commands about the connection itself: PING HELLO AUTH SELECT CLIENT and the like. No data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlab.kv.password import TOO_MANY
from kvlab.kv.resp_answer import RespBatch
from kvlab.kv.resp_words import unknown_subcommand, wrong_count
from kvlab.wire.resp_encode import OK, bulk, encode, error, integer, simple, text_block

if TYPE_CHECKING:
    from kvlab.kv.resp_client import RespClient

# What clients are told that ask which Redis this is: one that has HELLO, and COMMAND as told here.
REDIS_VERSION = "7.0.0"
NAME_BYTES_MAX = 256

_NO_PASSWORD = error("ERR Client sent AUTH, but no password is set")  # clients know this sentence
NOAUTH = error("NOAUTH Authentication required.")
_NOAUTH_HELLO = error(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto>"
    " AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol"
    " version at the same time"
)
_WRONGPASS = error("WRONGPASS invalid username-password pair or user is disabled.")
WITHOUT_PASSWORD = (b"AUTH", b"HELLO", b"QUIT", b"RESET")  # as in Redis
_BAD_NAME = error(
    "ERR Client names cannot contain spaces, newlines or special characters, "
    f"nor have more than {NAME_BYTES_MAX} bytes"
)
_SYNTAX = error("ERR syntax error")


def ping(_client: RespClient, _batch: RespBatch, args: list[bytes], _now_us: int) -> bytes:
    """PING [message]."""
    if len(args) > 2:
        return wrong_count(b"PING")
    return bulk(args[1]) if len(args) == 2 else simple("PONG")


def echo(_client: RespClient, _batch: RespBatch, args: list[bytes], _now_us: int) -> bytes:
    """ECHO message."""
    return bulk(args[1])


def quit_(client: RespClient, _batch: RespBatch, _args: list[bytes], _now_us: int) -> bytes:
    """QUIT: what was asked before is answered, what comes after it is not read."""
    client.quit = client.turn = True
    return OK


def reset(client: RespClient, _batch: RespBatch, _args: list[bytes], _now_us: int) -> bytes:
    """RESET."""
    client.reset()
    return simple("RESET")


def auth(client: RespClient, _batch: RespBatch, args: list[bytes], now_us: int) -> bytes:
    """AUTH [user] password."""
    if len(args) > 3:
        return _SYNTAX
    user = args[1] if len(args) == 3 else b"default"
    return _tell_password(client, user, args[-1], now_us) or OK


def _tell_password(client: RespClient, user: bytes, told: bytes, now_us: int) -> bytes:
    """Let a client in that tells the password; return b"", or the error."""
    state = client.node.state
    password = state.settings.password
    if password is None:  # whoever sends one believes that there is one
        return _NO_PASSWORD
    why = state.attempts.accepts(password, told, user, client.origin, now_us)
    if why == TOO_MANY:
        client.quit = client.turn = True
        return error(f"BUSY {why}")
    if why:
        state.counters["auth_failures"] += 1
        return _WRONGPASS
    client.locked, client.turn = False, True
    return b""


def select(client: RespClient, _batch: RespBatch, args: list[bytes], _now_us: int) -> bytes:
    """SELECT namespace: 0 is the eventual one, 1 the linear one."""
    if not args[1].isdigit():
        return error("ERR value is not an integer or out of range")
    number = args[1].lstrip(b"0") or b"0"
    if number not in (b"0", b"1"):
        return error("ERR DB index is out of range; 0 is the eventual namespace, 1 the linear one")
    client.db, client.turn = int(number), True
    return OK


def ready_only(_client: RespClient, _batch: RespBatch, _args: list[bytes], _now_us: int) -> bytes:
    """READONLY, READWRITE, ASKING: any node serves any key at all times."""
    return OK


def hello(client: RespClient, _batch: RespBatch, args: list[bytes], now_us: int) -> bytes:
    """HELLO [2|3 [AUTH user password] [SETNAME name]]."""
    protocol, name = client.protocol, None
    if len(args) > 1:
        if not args[1].isdigit():
            return error("ERR Protocol version is not an integer or out of range")
        if args[1] not in (b"2", b"3"):
            return error("NOPROTO unsupported protocol version")
        protocol = int(args[1])
    rest = args[2:]
    while rest:
        option = rest[0].upper()
        if option == b"AUTH" and len(rest) >= 3:
            if problem := _tell_password(client, rest[1], rest[2], now_us):
                return problem
            rest = rest[3:]
            continue
        if option != b"SETNAME" or len(rest) < 2:
            return _SYNTAX
        name, rest = rest[1], rest[2:]
        if not _is_name(name):
            return _BAD_NAME
    if client.locked:
        return _NOAUTH_HELLO
    if name is not None:
        client.name = name
    if protocol != client.protocol:
        client.protocol, client.turn = protocol, True
    told = {
        "server": "kvlab",
        "version": REDIS_VERSION,
        "proto": protocol,
        "id": client.id,
        "mode": "cluster",
        "role": "master",
        "modules": [],
    }
    return encode(told, protocol)


def client_command(client: RespClient, batch: RespBatch, args: list[bytes], now_us: int) -> bytes:
    """CLIENT subcommand ...: this connection is the only one that it knows."""
    word, rest = args[1].upper(), args[2:]
    count = _CLIENT_COUNTS.get(word)
    if count is None:
        return unknown_subcommand("CLIENT", args[1])
    if len(rest) not in count:
        return wrong_count(b"CLIENT|" + word)
    match word:
        case b"ID":
            return integer(client.id)
        case b"GETNAME":
            return encode(client.name or None, batch.protocol)
        case b"SETNAME" if not _is_name(rest[0]):
            return _BAD_NAME
        case b"SETNAME":
            client.name = rest[0]
        case b"SETINFO":
            return _set_info(client, rest)
        case b"INFO" | b"LIST":
            return text_block(_line(client, now_us) + "\n", batch.protocol)
        case b"REPLY" if rest[0].upper() != b"ON":
            return error("ERR CLIENT REPLY: every request is answered here; read the replies")
        case b"NO-EVICT" | b"NO-TOUCH" if rest[0].upper() not in (b"ON", b"OFF"):
            return _SYNTAX
        case b"GETREDIR":
            return integer(-1)
        case _:
            pass
    return OK


# How many arguments each subcommand may have. NO-EVICT and NO-TOUCH ask for what is so anyway.
_CLIENT_COUNTS: dict[bytes, Any] = {
    b"ID": (0,),
    b"GETNAME": (0,),
    b"SETNAME": (1,),
    b"SETINFO": (2,),
    b"INFO": (0,),
    b"LIST": range(65),  # filters, of which this connection is taken to pass all
    b"REPLY": (1,),
    b"NO-EVICT": (1,),
    b"NO-TOUCH": (1,),
    b"GETREDIR": (0,),
}


def _set_info(client: RespClient, rest: list[bytes]) -> bytes:
    field = rest[0].upper()
    if field not in client.library:
        return error("ERR CLIENT SETINFO knows LIB-NAME and LIB-VER")
    if not _is_name(rest[1]):
        return _BAD_NAME
    client.library[field] = rest[1]
    return OK


def _is_name(name: bytes) -> bool:
    return len(name) <= NAME_BYTES_MAX and all(33 <= byte <= 126 for byte in name)


def _line(client: RespClient, now_us: int) -> str:
    """Return what CLIENT INFO tells; fields that Redis has and this store has not are left out."""
    library = {name.lower().decode(): value.decode() for name, value in client.library.items()}
    told = {
        "id": client.id,
        "name": client.name.decode(),
        "age": max(0, now_us - client.began_us) // 1_000_000,
        "idle": 0,
        "flags": "N",
        "db": client.db,
        "sub": 0,
        "psub": 0,
        "multi": -1,
        "qbuf": client.reader.waiting_bytes,
        "cmd": "client",
        "user": "default",
        "resp": client.protocol,
        **library,
    }
    return " ".join(f"{name}={value}" for name, value in told.items())
