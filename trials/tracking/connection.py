"""Whether a tracking store answers, and what it means when it does not."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

ANSWER_WITHIN = 15.0  # seconds; a server on a busy machine may take some
Function = TypeVar("Function", bound=Callable[..., Any])
STORES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


class Unreachable(ValueError):
    """The tracking store does not answer or does not take what it is given."""


def reaching(method: Function) -> Function:
    """Turn what MLflow and its transport raise in a method into :class:`Unreachable`."""

    @wraps(method)
    def call(*words: Any, **options: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(*words, **options)
        except (MlflowException, RequestException, SQLAlchemyError) as error:
            raise Unreachable(f"{words[0].uri}: {' '.join(str(error).split())[:300]}") from error

    return call  # type: ignore[return-value]


def whole_address(uri: str) -> str:
    """Write the address of a database in full: one from here is another from elsewhere."""
    scheme, slashes, path = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path or path.startswith(":memory:"):
        return uri
    return f"{scheme}{slashes}{Path(path).absolute()}"


def check_answers(uri: str, *, timeout: float = ANSWER_WITHIN) -> None:
    """Check that a tracking server answers, rather than wait minutes for MLflow to give up.

    Raises:
        Unreachable: nobody listens there, or nothing comes back in time.
        ValueError: the address is of no kind that MLflow knows.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError(f"the MLflow address {uri!r} is none: {error}") from error
    if parts.scheme.partition("+")[0] not in STORES:
        raise ValueError(
            f"the MLflow address {uri!r} is of no known kind; "
            "use http://HOST:PORT or sqlite:////ABSOLUTE/PATH.db"
        )
    if parts.scheme not in ("http", "https"):
        return
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=timeout)
        reason = f"HTTP {answer.status_code}" if answer.status_code >= 500 else ""
    except requests.exceptions.SSLError:
        return  # it speaks; MLflow's own settings say which certificates are good
    except requests.Timeout:
        reason = f"nothing within {timeout:g} s"
    except (requests.RequestException, ValueError) as error:
        reason = type(error).__name__
    if reason:
        raise Unreachable(
            f"the MLflow server {uri} does not answer ({reason}); start it, correct the address, "
            "or leave it out to keep the record in the campaign's folder"
        )
