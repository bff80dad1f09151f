"""The Ed25519 key (RFC 8032) that signs one's entries and one's board: made at first use, readable by its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from fmhub.errors import FmhubError, UntrustedFile
from fmhub.home import home, make_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def own() -> Ed25519PrivateKey:
    """The key of this home, `FMHUB_HOME/board.key`. Raises `UntrustedFile` for one that others can read or that is no key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = make_folder(home()) / "board.key"
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise UntrustedFile(f"{path} can be read by others; whoever read it can sign in your name. If nobody did: chmod 600 {path}")
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        raise UntrustedFile(f"{path} is no key: restore it from a backup, or move it away and have a new name.") from None


def _make(path: Path) -> None:
    """Whole and private before it has its name; of two processes that make one at once, the first counts."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    except OSError as error:
        raise FmhubError(f"Cannot write {path}: {error.strerror}.") from None


def public() -> str:
    """The public half of one's key, 64 hexadecimal digits: the name that a signature is checked by."""
    return own().public_key().public_bytes_raw().hex()


def sign(message: bytes) -> str:
    """One's signature, 128 hexadecimal digits."""
    return own().sign(message).hex()


def signed(message: bytes, signature: object, signer: object) -> bool:
    """Whether `signature` is `signer`'s of exactly this message; False for anything that is no signature or key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(signer))).verify(bytes.fromhex(str(signature)), message)
    except (ValueError, InvalidSignature):
        return False
    return True


def trusted() -> set[str]:
    """Public keys whose boards are believed: one's own and those in `FMHUB_HOME/trusted_keys`, one a line."""
    path = home() / "trusted_keys"
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return {public(), *(line.split("#")[0].strip() for line in lines)} - {""}
