"""Files of certificates for tests, made while they run."""

from __future__ import annotations

from pathlib import Path

import trustme


def make_pem(folder: Path, who: str) -> None:
    """Write WHO-ca.pem, WHO-cert.pem and WHO-key.pem, of a CA of their own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / f"{who}-ca.pem")
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    leaf.private_key_pem.write_to_path(folder / f"{who}-key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / f"{who}-cert.pem")
