"""The tables that a node keeps. Not the protocol that fills them: that is `kv`.

Today there is one engine, `memory`. The durable log comes with the store; what it will stand on is
`disk`.
"""
