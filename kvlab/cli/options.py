"""Options that many verbs share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_FILE = Path("cluster.yaml")

File = Annotated[
    Path,
    typer.Option("-f", "--file", help="The cluster's file.", show_default="./cluster.yaml"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Addr = Annotated[
    str,
    typer.Option(
        "--addr",
        metavar="HOST:PORT",
        help="Ask the cluster of the node at this address, whoever started it.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", help="Seed of the choice when the selector is one, minority or majority."
    ),
]
