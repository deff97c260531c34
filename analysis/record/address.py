"""Address of an MLflow tracking store: what of it is shown, its full form and its parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, unquote_plus

from analysis import schema

HIDDEN = "***"
SHORTEST = 4  # characters of an option's value that messages are searched for


class Address(str):
    """Address of a tracking store, as it may be shown, kept and compared.

    The text has ``***`` in place of user, password and the values of options, so that no message,
    file or log contains them. Only :attr:`full` has them, for the client.
    """

    _full: str | None

    def __new__(cls, text: str) -> Self:
        """Take an address that the user gave; one that is an ``Address`` already is returned."""
        if isinstance(text, cls):
            return text
        address = super().__new__(cls, without_secrets(full_address(text)))
        address._full = full_address(text)
        return address

    @classmethod
    def kept(cls, text: str) -> Self:
        """Take an address that stands in a file: it is shown and compared, but not followed."""
        address = super().__new__(cls, without_secrets(full_address(text)))
        address._full = None
        return address

    @property
    def full(self) -> str:
        """The address with its secrets.

        Raises:
            ValueError: the address comes from a file, and the user did not give it.
        """
        self.check_given()
        return str(self) if self._full is None else self._full

    def check_given(self) -> None:
        """Refuse an address that comes from a file, and that the user did not give.

        Raises:
            ValueError: the message names the address and the ways to give it.
        """
        if self._full is None:
            raise ValueError(
                f"the record is kept at {self}, and an address in a folder is followed only if you "
                f"give it: add --tracking-uri {self} or set MLFLOW_TRACKING_URI; `atat move` "
                "changes it"
            )

    @property
    def scheme(self) -> str:
        """Scheme with its driver: ``postgresql+psycopg2``."""
        return self.partition(":")[0].lower()

    @property
    def is_server(self) -> bool:
        """Tell whether it is the address of an MLflow server."""
        return self.scheme in ("http", "https")

    @property
    def database(self) -> Path | None:
        """File of a sqlite database; None for other addresses and a database in memory."""
        if self.scheme.partition("+")[0] != "sqlite" or not _sqlite_path(self):
            return None
        return schema.database_of(self)

    def hide(self, text: str) -> str:
        """Replace the secrets of this address in a text, as ``***``."""
        full = self._full or self
        shown = text.replace(full, self)
        for secret in sorted(_secrets(full), key=len, reverse=True):
            shown = shown.replace(secret, HIDDEN)
        return hide_addresses(shown)


def full_address(uri: str) -> str:
    """Make the path of a sqlite address absolute, so that it is the same from every directory.

    A server's address loses the slash at its end. Other addresses, and the database in memory, are
    returned unchanged.
    """
    scheme, slashes, path = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not _sqlite_path(uri):
        return uri.rstrip("/") if uri.lower().startswith(("http://", "https://")) else uri
    return f"{scheme}{slashes}{Path(path).absolute()}"


def without_secrets(uri: str) -> str:
    """Replace user, password, fragment and the values of options in an address by ``***``."""
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        _, at, host = uri.rpartition("@")
        return f"{HIDDEN}@{host}" if at else uri
    if not rest.startswith("/"):
        _, at, host = rest.rpartition("@")
        rest = f"{HIDDEN}@{host}" if at else rest
        rest = re.sub("#.*", f"#{HIDDEN}", rest)
    place, mark, query = rest.partition("?")
    options = re.sub(r"[^&;]+", lambda option: _hide_value(option[0]), query)
    return f"{scheme}://{place}{mark}{options}"


def hide_addresses(text: str) -> str:
    """Hide the secrets of every address in a text."""
    return re.sub(r"[\w+.-]+://[^\s'\"<>`]+", lambda found: without_secrets(found[0]), text)


def _sqlite_path(uri: str) -> str:
    path = uri.partition(":///")[2]
    return "" if path.startswith(":memory:") else path


def _hide_value(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _secrets(uri: str) -> set[str]:
    """List user, password and long values of options, each as written and decoded."""
    rest = uri.partition("://")[2] or uri
    found: set[str] = set()
    if not rest.startswith("/"):
        sign_in, at, rest = rest.rpartition("@")
        found |= set(sign_in.split(":", 1)) if at else set()
    options = re.split("[&;#]", rest.partition("?")[2])
    values = (option.partition("=")[2] or option for option in options)
    found |= {value for value in values if len(value) >= SHORTEST}
    decoded = {change(secret) for secret in found for change in (unquote, unquote_plus)}
    encoded = {quote(secret, safe="") for secret in decoded}
    return (found | decoded | encoded) - {"", HIDDEN}
