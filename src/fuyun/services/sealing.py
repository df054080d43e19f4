"""Secrets at rest: AES-256-GCM, the key in a file of its own beside the database.

A sealed secret is `1 || nonce (12) || ciphertext and tag`; where it belongs (`namespace/name`) is authenticated too, so
that a row moved to another tenant does not open. Random nonces are good for 2^32 seals of one key (NIST
SP 800-38D, section 8.3).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from fuyun.domain.errors import OperatorError

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Sealer:
    """Seals and opens with one key. Its `repr` shows nothing of it."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 6 MB that only secrets need

        self._cipher = AESGCM(key)

    def seal(self, value: bytes, place: str) -> bytes:
        """`value` sealed for `place`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, value, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for `place`; OperatorError when the key is another one or the bytes were changed."""
        from cryptography.exceptions import InvalidTag

        nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT:
                raise InvalidTag
            return self._cipher.decrypt(nonce, rest, place.encode())
        except (InvalidTag, ValueError) as exc:
            raise OperatorError(
                f"the secret {place} cannot be opened: it was changed, or sealed with another key file",
                hint="restore the key file that belongs to this database, or set the secret again",
            ) from exc


def load_key(path: Path, may_create: bool) -> bytes:
    """The key in `path` (64 hex digits, mode 0600), made on first use when `may_create`.

    OperatorError when it is missing although secrets exist, readable by others, or no key.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not may_create:
            raise OperatorError(
                f"{path} is missing, and there are secrets sealed with it",
                hint="restore it from the backup of this data directory; without it the secrets are lost",
            ) from None
        return _create(path)
    with open(fd, "rb") as file:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o077:
            raise OperatorError(f"{path} has mode {mode:04o}: others may read it", hint=f"chmod 600 {path}")
        text = file.read(200).strip()
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise OperatorError(f"{path} holds no key of {_KEY_BYTES * 2} hex digits", hint="restore it from the backup")
    return key


def identity_of(key: bytes) -> str:
    """A name for the platform of this key, which tells nothing about the key: 12 hex digits. It goes with the data
    directory, wherever that is moved to."""
    return hmac.new(key, b"fuyun identity", hashlib.sha256).hexdigest()[:12]


def _create(path: Path) -> bytes:
    key = secrets.token_bytes(_KEY_BYTES)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(key.hex().encode() + b"\n")
        file.flush()
        os.fsync(fd)
    try:
        os.link(draft, path)  # unlike rename it never replaces a key that another process made meanwhile
    except FileExistsError:
        return load_key(path, may_create=False)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key
