"""The verb doctor: what this machine lacks of what clusters need. It changes nothing."""

from __future__ import annotations

import typer

from kvlab.cli import out
from kvlab.cli.options import DEFAULT_FILE, File, Json


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("doctor")(doctor)


def doctor(*, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Examine this machine: what clusters need of it, and what is slow.

    Exit code 5 if something is missing. The figures are of this moment: run it again when the
    machine is quiet.

    Examples:
      kvlab doctor
      kvlab doctor --json
    """
    import msgspec

    from kvlab.errors import InfraError
    from kvlab.lab.doctor import examine
    from kvlab.lab.state import STATE_ROOT
    from kvlab.report.doctor import doctor_table

    found = [msgspec.to_builtins(one) for one in examine(file.resolve().parent / STATE_ROOT)]
    if json:
        out.show_json({"findings": found})
    else:
        out.show(doctor_table(found))
    if any(one["state"] == "missing" for one in found):
        raise typer.Exit(InfraError.exit_code)
    if not json:
        out.next_step("kvlab up", "kvlab demo")
