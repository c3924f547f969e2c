"""The exception tree and the exit code of each class; nothing else is raised on purpose.

It knows no room: every room raises these, and only `cli` turns them into text and exit codes.

    KvlabError (5)
    ├── UsageError (2)        the caller asked for something that cannot be; says what to write
    │   └── SpecError (2)     cluster.yaml or another file is wrong; lists every problem
    ├── InvalidError (1)      the verdict of a run or check is `invalid`
    ├── UnknownError (3)      the verdict is `unknown`
    ├── VacuousError (4)      a guard failed: the run proved nothing
    └── InfraError (5)        the machine, a port, a process or a daemon is not as needed
        ├── NotRunningError   no cluster or daemon answers
        ├── PortTakenError    somebody else listens on an address we need
        └── ClientError       a request to a node did not succeed
            ├── DefiniteError     the operation certainly did not happen
            └── UncertainError    it may have happened (code UNKNOWN, time-outs, lost connections)

Exit codes follow DESIGN: 0 valid, 1 invalid, 2 usage, 3 unknown, 4 vacuous, 5 infrastructure,
130 interrupted.
"""

from __future__ import annotations


class KvlabError(Exception):
    """Base of all: a sentence for a person, an optional hint that says what to do next."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KvlabError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class SpecError(UsageError):
    """A file is wrong. `problems` lists every one of them as a full line of text."""

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class InvalidError(KvlabError):
    """The verdict is `invalid`."""

    exit_code = 1


class UnknownError(KvlabError):
    """The verdict is `unknown`."""

    exit_code = 3


class VacuousError(KvlabError):
    """A guard failed: the run proved nothing."""

    exit_code = 4


class InfraError(KvlabError):
    """The machine, a port, a process or a daemon is not as needed."""


class NotRunningError(InfraError):
    """No cluster or daemon answers."""


class PortTakenError(InfraError):
    """Somebody else listens on an address that is needed."""


class ClientError(InfraError):
    """A request to a node did not succeed; `code` is the node's machine-readable reason."""

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class DefiniteError(ClientError):
    """The operation certainly did not happen."""


class UncertainError(ClientError):
    """The operation may have happened."""
