"""What the CA's index keeps of a batch: which device has which certificate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from mtls_ambassador.pki.conflicts import ConflictError
from mtls_ambassador.pki.entries import Entry
from mtls_ambassador.pki.index import Index
from mtls_ambassador.pki.issuing import Claim, require_no_conflict

_COLUMNS = "line, name, cn, identity, spki, serial"
_REVOKED = "EXISTS (SELECT 1 FROM revocation WHERE revocation.serial = batch_item.serial)"
_INSERT = f"INSERT INTO batch_item (batch, {_COLUMNS}, replaced) VALUES (?,?,?,?,?,?,?,?)"  # noqa: S608

_TAKE_REVOKED = f"DELETE FROM batch_item WHERE batch = ? AND name = ? AND {_REVOKED} RETURNING serial"  # noqa: S608
_PENDING = "serial = (SELECT serial FROM certificate WHERE serial = ? AND pending)"
_DISCARD = (
    # A device stays revoked when its next certificate comes to nothing.
    f"UPDATE batch_item SET serial = replaced, replaced = NULL WHERE {_PENDING} AND replaced IS NOT NULL",  # noqa: S608
    f"DELETE FROM batch_item WHERE {_PENDING}",  # noqa: S608
    "DELETE FROM certificate WHERE serial = ? AND pending",
)


class Item(NamedTuple):  # which crosses from process to process at a fifth of a dataclass's cost
    """A device of a batch.

    Attributes:
        line: Its line in the list when it was issued.
        name: Of its folder or archive.
        cn: Common name.
        identity: JSON object, or empty.
        spki: Its public key, DER.
        serial: Of its certificate, as in `Entry`.
        fingerprint: Of its certificate, as in `Entry`.
        public_key: SHA-256 of `spki`, as in `Entry`.
    """

    line: int
    name: str
    cn: str
    identity: str
    spki: bytes
    serial: str
    fingerprint: str
    public_key: str


@dataclass(frozen=True)
class Items:
    """The items of one batch in an index.

    Attributes:
        index: The CA's.
        batch: The batch's identifier.
        again: Whether a device may get one more certificate: where its subject has one, or its own is revoked.
    """

    index: Index
    batch: str
    again: bool = False

    def find(self, name: str) -> Item | None:
        """The item of a name."""
        return next(self._items("AND name = ?2", name), None)

    def is_issued(self, name: str) -> bool:
        """Whether a name has an item that is more than pending."""
        return next(self._items("AND name = ?2 AND NOT certificate.pending", name), None) is not None

    def issued(self) -> Iterator[Item]:
        """All that are more than pending and not revoked, in the order of their lines; read row by row."""
        return self._items(f"AND NOT certificate.pending AND NOT {_REVOKED} ORDER BY line, name")

    def is_revoked(self, name: str) -> bool:
        """Whether the certificate of a name's item is revoked."""
        return next(self._items(f"AND name = ?2 AND {_REVOKED}", name), None) is not None

    def pending(self) -> Sequence[Item]:
        """Those that nobody outside the batch can have; a few checkpoints' at most."""
        return list(self._items("AND certificate.pending"))

    def count(self) -> int:
        """How many are more than pending."""
        query = "SELECT count(*) FROM batch_item JOIN certificate USING (serial) WHERE batch = ?1 AND NOT pending"
        return int(next(iter(self.index.read(query, self.batch)))[0])

    def reserve(self, made: Iterable[tuple[Item, Entry]], *, foreign_keys: bool) -> Mapping[str, str]:
        """Put certificates into the index as pending, before any file of theirs is written. One transaction.

        Args:
            made: The devices and their certificates.
            foreign_keys: Whether the keys came from elsewhere, so that one may have come twice.

        Returns:
            Serial numbers that were not taken in, each with the reason.

        Raises:
            IndexFileError: the index cannot be written.
        """
        refused: dict[str, str] = {}
        claim, now = Claim.AGAIN if self.again else Claim.NEW, datetime.now(UTC)
        with self.index.writing() as cursor:
            for item, entry in made:
                try:
                    require_no_conflict(self.index, entry, now, claim, foreign_key=foreign_keys)
                except ConflictError as error:
                    refused[entry.serial] = f"{error.what}. {error.remedy}"
                    continue
                self.index.insert(cursor, [entry], pending=True)
                replaced = cursor.execute(_TAKE_REVOKED, (self.batch, item.name)).fetchone() if self.again else None
                cursor.execute(_INSERT, (self.batch, *item[:6], replaced and replaced[0]))
        return refused

    def discard(self, serials: Collection[str]) -> None:
        """Take pending items out, whose files were removed; their certificates never left the staging folder.

        Raises:
            IndexFileError: the index cannot be written.
        """
        with self.index.writing() as cursor:
            for statement in _DISCARD:
                cursor.executemany(statement, ((serial,) for serial in serials))

    def identify(self, name: str, identity: str) -> None:
        """Note another identity for a device: that is not in its certificate, and lists are mended.

        Raises:
            IndexFileError: the index cannot be written.
        """
        with self.index.writing() as cursor:
            cursor.execute(
                "UPDATE batch_item SET identity = ? WHERE batch = ? AND name = ?", (identity, self.batch, name)
            )

    def _items(self, condition: str, *values: str) -> Iterator[Item]:
        query = f"""SELECT {_COLUMNS}, fingerprint, public_key FROM batch_item
            JOIN certificate USING (serial) WHERE batch = ?1 {condition}"""  # noqa: S608
        for row in self.index.read(query, self.batch, *values):
            yield Item(*row)
