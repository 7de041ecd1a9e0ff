"""The boto3 client of s3://, with the settings of Beam's S3 options, and its errors in words."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from onceseen.core.remote import current_options

ATTEMPTS = 4
"""How often a request, or a read that breaks off, is tried."""
MISSING = ("404", "NoSuchKey", "NotFound")
REPLACED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
_CONNECTIONS = 64


@dataclass(slots=True)
class _Clients:
    """The process's boto3 clients by their settings: making one takes tenths of a second, and threads may share it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    options: object = None
    client: Any = None
    by_settings: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def get(self) -> Any:  # noqa: ANN401 - a boto3 client
        """The client of the options that are current."""
        options = current_options()
        with self.lock:
            if options is not self.options:
                self.client = self._of(options)
                self.options = options
            return self.client

    def _of(self, options: Any) -> Any:  # noqa: ANN401
        from apache_beam.options.pipeline_options import S3Options

        given = options.view_as(S3Options)
        settings: dict[str, Any] = {
            "region_name": given.s3_region_name,
            "api_version": given.s3_api_version,
            "use_ssl": not given.s3_disable_ssl,
            "verify": given.s3_verify,
            "endpoint_url": given.s3_endpoint_url,
            "aws_access_key_id": given.s3_access_key_id,
            "aws_secret_access_key": given.s3_secret_access_key,
            "aws_session_token": given.s3_session_token,
        }
        environment = sorted(pair for pair in os.environ.items() if pair[0].startswith("AWS_"))
        key = (*settings.values(), *environment)  # boto3 reads what the options leave open
        if key not in self.by_settings:
            import boto3
            from botocore.config import Config

            config = Config(
                max_pool_connections=_CONNECTIONS, retries={"mode": "standard", "max_attempts": ATTEMPTS}
            )
            self.by_settings[key] = boto3.session.Session().client("s3", config=config, **settings)
        return self.by_settings[key]


_CLIENTS = _Clients()


def s3_client() -> Any:  # noqa: ANN401 - a boto3 client
    """The client of the options that are current; threads may share it."""
    return _CLIENTS.get()


def split_path(path: str) -> tuple[str, str]:
    """(bucket, key).

    Raises:
        ValueError: If there is no bucket.
    """
    bucket, _, key = path.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{path!r} names no bucket; expected s3://bucket/name")
    return bucket, key


def error_code(error: BaseException) -> str:
    """S3's code of an error, empty where it has none."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def s3_errors(path: str) -> Iterator[None]:
    """Errors of boto3 as `OSError`s that name the path and, where it is known, the remedy.

    What is raised inside by a stream that breaks passes as it is: reading tries again.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = error_code(error)
        if code == "NoSuchBucket":
            bucket = split_path(path)[0]
            raise OSError(f"{path}: there is no bucket {bucket!r}; make it, or correct the name") from error
        if code in MISSING:
            raise FileNotFoundError(f"{path} is not there") from error
        if code in ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"):
            raise PermissionError(
                f"{path}: S3 refuses these credentials ({code}); expected ones that may read and write there"
            ) from error
        raise OSError(f"{path}: {error}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise PermissionError(
            f"{path}: no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or have the "
            "machine's role give them"
        ) from error
    except exceptions.BotoCoreError as error:
        raise OSError(f"{path}: {error}") from error
