"""Password hashes (argon2id), in threads of their own: a hash takes some 50 ms and 64 MiB."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# A bound on memory, and on how much of the machine log-ins may take.
THREADS = 2
PASSWORD_BYTES_MAX = 512


class Passwords:
    """Makes and checks hashes; argon2 releases the interpreter while it works."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(THREADS, "passwords")
        self._nobodys: str | None = None

    async def hash(self, password: str) -> bytes:
        """The hash with its salt and parameters, as argon2 writes them."""
        text = await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)
        return text.encode()

    async def verify(self, password_hash: bytes | None, password: str) -> bool:
        """Whether it is the password. Takes as long where there is no hash, so that nobody learns who exists."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._verify, password_hash, password)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: bytes | None, password: str) -> bool:
        if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
            return False
        try:
            self._hasher.verify(password_hash.decode() if password_hash else self._nobody(), password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    def _nobody(self) -> str:
        if self._nobodys is None:
            self._nobodys = self._hasher.hash("nobody's")
        return self._nobodys
