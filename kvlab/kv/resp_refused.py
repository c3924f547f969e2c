"""Commands of Redis that this store refuses, each with why and what to use. It does none of them.

A conditional operation (one that writes what depends on what it read) cannot be decided by a quorum
that takes the last writer's word, so none is emulated.
"""

from __future__ import annotations

from kvlab.kv.resp_words import SHOWN_BYTES_MAX, shown
from kvlab.wire.resp_encode import error

CONDITIONAL = (
    "it reads and writes in one step, which the eventual namespace cannot decide; "
    "SELECT 1 goes to the linear namespace, which can"
)
ATOMIC = "it changes several keys or parts of a value in one step; use commands of one key"
TRANSACTION = (
    "there are no transactions; send the commands one by one or in a pipeline without MULTI "
    "(redis-py: pipeline(transaction=False))"
)
SCRIPT = "there are no scripts; use GET, SET, DEL, MGET and MSET"
MESSAGES = "there are no channels and no subscriptions; ask with GET"
TYPES = "values are strings only; encode a structure as one, and use GET and SET"
LISTING = "keys are not listed all at once; use SCAN, or `kvlab keys` to see where they are"
PARTS = "a value is written and read whole; use GET and SET"
WHOLE = "namespaces are not exchanged, and keys stay in theirs; SELECT goes to the other one"
OPERATION = "nodes are run from outside; use kvlab up, down, add, remove, status"
QUORUM = (
    "a write is acknowledged by its quorum (--w of the nodes); there is nothing more to wait for"
)

_GROUPS = {
    ATOMIC: "INCRBYFLOAT MSETNX SETRANGE SETBIT BITFIELD RENAME RENAMENX COPY MSETEX DELEX",
    TRANSACTION: "MULTI EXEC DISCARD WATCH UNWATCH",
    SCRIPT: "EVAL EVAL_RO EVALSHA EVALSHA_RO SCRIPT FCALL FCALL_RO FUNCTION",
    MESSAGES: "SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE PUBLISH"
    " SPUBLISH PUBSUB MONITOR",
    TYPES: "LPUSH RPUSH LPOP RPOP LLEN LRANGE LINDEX LSET LREM LTRIM BLPOP BRPOP SADD SREM SPOP"
    " SMEMBERS SISMEMBER SCARD HSET HMSET HGET HMGET HGETALL HDEL HINCRBY HEXISTS HKEYS HLEN ZADD"
    " ZREM ZRANGE ZSCORE ZCARD ZINCRBY ZPOPMIN XADD XREAD XRANGE XLEN PFADD PFCOUNT GEOADD",
    LISTING: "KEYS RANDOMKEY SORT",
    PARTS: "GETRANGE SUBSTR GETBIT BITCOUNT BITPOS",
    WHOLE: "SWAPDB MOVE",
    OPERATION: "SHUTDOWN SAVE BGSAVE BGREWRITEAOF REPLICAOF SLAVEOF FAILOVER DEBUG ACL MODULE"
    " LATENCY SLOWLOG MEMORY OBJECT ROLE MIGRATE DUMP RESTORE SYNC PSYNC",
    QUORUM: "WAIT WAITAOF",
}
REFUSED = {name.encode(): why for why, names in _GROUPS.items() for name in names.split()}

SET_OPTIONS = dict.fromkeys((b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"), "SET takes NX, XX or GET")


def refusal(name: bytes, args: list[bytes]) -> bytes:
    """Return the error for a command that is not there. `name` is in capitals."""
    why = REFUSED.get(name)
    if why is not None:
        return error(f"ERR {name.decode()}: {why}")
    told = ""
    for arg in args[1:]:
        if len(told) >= SHOWN_BYTES_MAX:
            break
        told += f"'{shown(arg[: SHOWN_BYTES_MAX - len(told)])}' "
    return error(f"ERR unknown command '{shown(args[0])}', with args beginning with: {told}")
