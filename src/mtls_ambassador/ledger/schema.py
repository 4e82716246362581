"""The ledger's tables. `migrations/` makes them in a database; a test holds that the two agree."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

REVISION = "0001"
"""The newest migration."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

# SQLite numbers its rows by itself only where the type is called INTEGER.
Number = BigInteger().with_variant(Integer, "sqlite")


class Moment(TypeDecorator[dt.datetime]):
    """A time with its zone, kept as microseconds since 1970 (UTC): the same in every database, and short."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Count microseconds."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002
        """The time in UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class Digest(TypeDecorator[str]):
    """A SHA-256, lower-case hex outside, 32 bytes inside."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """Its bytes."""
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Its hex digits."""
        return None if value is None else bytes(value).hex()


def digest(*parts: str) -> str:
    """SHA-256 of texts, so that an index stays small however long they are, lower-case hex."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", Number, primary_key=True),
    Column("fingerprint", Digest, nullable=False, unique=True),
    Column("key", Digest, nullable=False, index=True),
    Column("name", Digest, nullable=False, index=True, doc="Of issuer and subject."),
    Column("subject", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("serial", Text, nullable=False, index=True),
    Column("anchor", Text, nullable=False),
    Column("not_before", Moment, nullable=False),
    Column("not_after", Moment, nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("refusals", BigInteger, nullable=False, doc="All of them, with those the history leaves out."),
    Column("last_refused", Moment),
    Column("last_reason", Text),
    Column("last_address", Text, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", Number, primary_key=True),
    Column("identity_digest", Digest, nullable=False, unique=True),
    Column("identity", Text, nullable=False),
    Column("mender_id", Text, index=True),
    Column("holder_id", Number, ForeignKey("certificates.id")),
    Column("first_seen", Moment, nullable=False),
    Column("last_admitted", Moment),
    Column("last_address", Text, nullable=False),
    Column("contested", Moment, doc="When several keys were last seen to claim it by turns."),
    Column("adoption_kind", Text),
    Column("adoption_value", Text),
)

# Which certificates a device was admitted with.
links = Table(
    "links",
    metadata,
    Column("id", Number, primary_key=True),
    Column("device_id", Number, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False),
    Column("certificate_id", Number, ForeignKey("certificates.id"), nullable=False, index=True),
    Column("auth_key", Digest, nullable=False, index=True),
    Column("first_admitted", Moment, nullable=False),
    Column("last_admitted", Moment, nullable=False),
    Column("how", Text, nullable=False, doc="Kind of the event by which it came to be."),
    Column("superseded", Boolean, nullable=False),
    UniqueConstraint("device_id", "certificate_id", "auth_key"),
)

# Identities that a certificate was refused with: the last few of each.
claims = Table(
    "claims",
    metadata,
    Column("id", Number, primary_key=True),
    Column("certificate_id", Number, ForeignKey("certificates.id"), nullable=False),
    Column("identity_digest", Digest, nullable=False, index=True),
    Column("identity", Text, nullable=False, doc="Its beginning, if it is very long."),
    Column("last_refused", Moment, nullable=False, index=True),
    Column("last_reason", Text),
    UniqueConstraint("certificate_id", "identity_digest"),
)

# Only ever added to; the oldest go.
history = Table(
    "history",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("kind", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("identity_digest", Digest),
    Column("identity", Text, doc="Its beginning, if it is very long."),
    Column("certificate_id", Number, ForeignKey("certificates.id")),
    Column("auth_key", Digest, doc="Where it is not the certificate's own."),
    Column("reason", Text),
    Column("detail", Text, nullable=False),
    Column("mender_id", Text),
    Column("mender_status", Integer),
    Column("rule", Text),
    Column("left_out", Integer, nullable=False, doc="How many of its like came before it that are not in the history."),
    Index(None, "kind", "at"),
    Index(None, "identity_digest", "id"),
    Index(None, "certificate_id", "id"),
)
