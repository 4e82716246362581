"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "certificates",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.LargeBinary(32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("anchor", sa.Text(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.Column("last_refused", sa.BigInteger()),
        sa.Column("last_reason", sa.Text()),
        sa.Column("last_address", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
        sa.UniqueConstraint("fingerprint", name="uq_certificates_fingerprint"),
    )
    op.create_index("ix_certificates_key", "certificates", ["key"])
    op.create_index("ix_certificates_name", "certificates", ["name"])
    op.create_index("ix_certificates_serial", "certificates", ["serial"])
    op.create_table(
        "claims",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("certificate_id", _NUMBER, nullable=False),
        sa.Column("identity_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("last_refused", sa.BigInteger(), nullable=False),
        sa.Column("last_reason", sa.Text()),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_claims_certificate_id"),
        sa.PrimaryKeyConstraint("id", name="pk_claims"),
        sa.UniqueConstraint("certificate_id", "identity_digest", name="uq_claims_certificate_id_identity_digest"),
    )
    op.create_index("ix_claims_identity_digest", "claims", ["identity_digest"])
    op.create_index("ix_claims_last_refused", "claims", ["last_refused"])
    op.create_table(
        "devices",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("identity_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("mender_id", sa.Text()),
        sa.Column("holder_id", _NUMBER),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_admitted", sa.BigInteger()),
        sa.Column("last_address", sa.Text(), nullable=False),
        sa.Column("contested", sa.BigInteger()),
        sa.Column("adoption_kind", sa.Text()),
        sa.Column("adoption_value", sa.Text()),
        sa.ForeignKeyConstraint(["holder_id"], ["certificates.id"], name="fk_devices_holder_id"),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.UniqueConstraint("identity_digest", name="uq_devices_identity_digest"),
    )
    op.create_index("ix_devices_mender_id", "devices", ["mender_id"])
    op.create_table(
        "history",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("identity_digest", sa.LargeBinary(32)),
        sa.Column("identity", sa.Text()),
        sa.Column("certificate_id", _NUMBER),
        sa.Column("auth_key", sa.LargeBinary(32)),
        sa.Column("reason", sa.Text()),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("mender_id", sa.Text()),
        sa.Column("mender_status", sa.Integer()),
        sa.Column("rule", sa.Text()),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_history_certificate_id"),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )
    op.create_index("ix_history_certificate_id_id", "history", ["certificate_id", "id"])
    op.create_index("ix_history_identity_digest_id", "history", ["identity_digest", "id"])
    op.create_index("ix_history_kind_at", "history", ["kind", "at"])
    op.create_table(
        "links",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("device_id", _NUMBER, nullable=False),
        sa.Column("certificate_id", _NUMBER, nullable=False),
        sa.Column("auth_key", sa.LargeBinary(32), nullable=False),
        sa.Column("first_admitted", sa.BigInteger(), nullable=False),
        sa.Column("last_admitted", sa.BigInteger(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_links_certificate_id"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_links_device_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
        sa.UniqueConstraint(
            "device_id", "certificate_id", "auth_key", name="uq_links_device_id_certificate_id_auth_key"
        ),
    )
    op.create_index("ix_links_certificate_id", "links", ["certificate_id"])
    op.create_index("ix_links_auth_key", "links", ["auth_key"])
