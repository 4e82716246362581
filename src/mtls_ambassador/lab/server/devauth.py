"""deviceauth: which devices and keys there are, in which state, and which tokens are good.

Source: Mender deviceauth, devices API v1 (auth_requests) and management API v2.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from mtls_ambassador.lab.server.devauth_store import DevauthStore
from mtls_ambassador.lab.server.identity import Identity
from mtls_ambassador.lab.server.inventory import Inventory
from mtls_ambassador.lab.server.records import AuthSet, Device, rfc3339
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.rules import (
    ACCEPTED,
    NOAUTH,
    PENDING,
    PREAUTHORIZED,
    check_transition,
    device_status,
    status_may_change,
    strongest,
)
from mtls_ambassador.lab.server.settings import Switches
from mtls_ambassador.lab.server.tokens import Signer, TokenRefused, bearer, device_claims


class DeviceExists(Refusal):
    """409: a device of that identity is there; `device` is what the answer's body shows."""

    def __init__(self, device: Device) -> None:
        super().__init__(409, "device already exists")
        self.device = device


@dataclass(frozen=True)
class Devauth:
    """The service.

    Attributes:
        store: Where the records are.
        inventory: Gets identities and statuses copied.
        switches: The device limit.
        signer: Signs and checks device tokens.
        token_lifetime: Seconds.
        remove_later: Called with the id of a device that was decommissioned, to call `remove` after a while.
        clock: Seconds since the epoch.
    """

    store: DevauthStore
    inventory: Inventory
    switches: Switches
    signer: Signer
    token_lifetime: float
    remove_later: Callable[[str], None]
    clock: Callable[[], float]

    def submit(self, identity: Identity, pubkey: str) -> str:
        """Handle an auth request whose signature was verified, and return a token.

        Raises:
            Refusal: 401, the auth set is not accepted, the device is decommissioning or beyond the limit.
        """
        found = self.store.set_by_key(identity.digest, pubkey)
        if found and found.status == PREAUTHORIZED:
            self._accept_preauthorized(found)
        else:
            found = self._register(identity, pubkey)
            if found.status != ACCEPTED:
                raise Refusal(401, "dev auth: unauthorized")
        self.store.add_token(found.id, found.device_id)
        self._check_in(found.device_id, None)
        return self.signer.sign(device_claims(found.id, found.device_id, self.clock(), self.token_lifetime))

    def preauthorize(self, identity: Identity, pubkey: str, *, force: bool) -> str:
        """Admit a key before its device comes, and return the id for the Location header.

        With `force` on a known identity that id is a fresh one and names no device: so does the real server.

        Raises:
            DeviceExists: the identity is known and `force` is false.
        """
        device_id = str(uuid.uuid4())
        now = rfc3339(self.clock())
        device = Device(
            device_id, identity.text, identity.digest, PREAUTHORIZED, decommissioning=False, created=now, updated=now
        )
        if self.store.add_device(device):
            self._set_of(device, pubkey, PREAUTHORIZED)
            self.inventory.put_identity(device_id, identity.data)
            self.inventory.put_status(device_id, PREAUTHORIZED)
            return device_id
        known = self._known(identity)
        if not force:
            raise DeviceExists(known)
        auth_set = self._set_of(known, pubkey, PREAUTHORIZED)
        self.store.set_set_status(auth_set.id, PREAUTHORIZED)  # whatever it was, and nothing else changes
        return device_id

    def set_status(self, device_id: str, set_id: str, status: str) -> None:
        """Change an auth set as an operator.

        Raises:
            Refusal: 400 not a status, not from the present one, or the set is of another device; 404; 422 at the
                device limit; 500 when the sets of the device contradict each other.
        """
        auth_set = self.auth_set(set_id)
        if auth_set.device_id != device_id:
            raise Refusal(400, "dev auth: dev ID and auth ID mismatch")
        if auth_set.status == status:
            return
        check_transition(auth_set.status, status)
        device = self.device(device_id)
        if status == ACCEPTED and device.status != ACCEPTED:
            self._check_limit(422)
        self._write_set_status(auth_set, status)
        if status_may_change(auth_set.status, status, device.status):
            self._write_device_status(device, ACCEPTED if status == ACCEPTED else self._aggregate(device_id))

    def delete_set(self, device_id: str, set_id: str) -> None:
        """Delete an auth set; the last preauthorized one of a device takes the device with it.

        Raises:
            Refusal: 404; 500 when the remaining sets contradict each other.
        """
        auth_set = self.auth_set(set_id)
        if auth_set.device_id != device_id:
            raise Refusal(404, "authorization set not found")
        self.store.delete_set(set_id)
        if auth_set.status == ACCEPTED:
            self.store.delete_tokens(device_id)
        status = self._aggregate(device_id)
        if auth_set.status == PREAUTHORIZED and status == NOAUTH:
            self.remove(device_id)
        else:
            self._write_device_status(self.device(device_id), status)

    def decommission(self, device_id: str) -> None:
        """Mark a device as decommissioning and have it removed.

        Raises:
            Refusal: 404.
        """
        if not self.store.mark_decommissioning(device_id):
            raise Refusal(404, "device not found")
        self.remove_later(device_id)

    def remove(self, device_id: str) -> None:
        """Remove a device everywhere: the end of the decommissioning workflow."""
        self.store.delete_device(device_id)
        self.inventory.remove(device_id)

    def verify(self, authorization: str) -> str:
        """The id of the device that an Authorization header of a device call belongs to.

        Raises:
            Refusal: 401, there is no token, or it is not good (any more).
        """
        try:
            claims = self.signer.verify(bearer(authorization), self.clock())
        except TokenRefused as error:
            raise Refusal(401, error.what) from None
        token_id = str(claims.get("jti", ""))
        auth_set = self.store.auth_set(token_id)
        if not claims.get("mender.device") or not self.store.has_token(token_id):
            raise Refusal(401, "token not found")
        if auth_set is None or auth_set.status != ACCEPTED:
            raise Refusal(401, "unauthorized")
        device = self.store.device(auth_set.device_id)
        if device is None or device.decommissioning:
            raise Refusal(401, "unauthorized")
        self._check_in(device.id, device.check_in)
        return device.id

    def revoke(self, token_id: str) -> None:
        """Revoke the tokens of an auth set, until the device authenticates again.

        Raises:
            Refusal: 404.
        """
        if not self.store.delete_token(token_id):
            raise Refusal(404, "token not found")

    def device(self, device_id: str) -> Device:
        """A device.

        Raises:
            Refusal: 404.
        """
        found = self.store.device(device_id)
        if found is None:
            raise Refusal(404, "device not found")
        return found

    def auth_set(self, set_id: str) -> AuthSet:
        """An auth set.

        Raises:
            Refusal: 404.
        """
        found = self.store.auth_set(set_id)
        if found is None:
            raise Refusal(404, "authorization set not found")
        return found

    def _accept_preauthorized(self, auth_set: AuthSet) -> None:
        device = self.device(auth_set.device_id)
        if device.decommissioning:
            raise Refusal(401, "dev auth: unauthorized")
        if device.status != ACCEPTED:
            self._check_limit(401)
        self._write_set_status(auth_set, ACCEPTED)
        self._write_device_status(device, ACCEPTED)

    def _register(self, identity: Identity, pubkey: str) -> AuthSet:
        """The auth set of an identity and key; both are added when they are new."""
        now = rfc3339(self.clock())
        device = Device(
            str(uuid.uuid4()), identity.text, identity.digest, NOAUTH, decommissioning=False, created=now, updated=now
        )
        if self.store.add_device(device):
            self.inventory.put_identity(device.id, identity.data)
        else:
            device = self._known(identity)
        if device.decommissioning:
            raise Refusal(401, "dev auth: unauthorized")
        auth_set = self._set_of(device, pubkey, PENDING)
        if strongest((auth_set.status, device.status)) != device.status:
            self._write_device_status(device, self._aggregate(device.id))
        return auth_set

    def _known(self, identity: Identity) -> Device:
        device = self.store.device_by_digest(identity.digest)
        if device is None:
            raise Refusal(500, "internal error")
        return device

    def _set_of(self, device: Device, pubkey: str, status: str) -> AuthSet:
        """The auth set of a device and key, added with `status` if there is none."""
        now = rfc3339(self.clock())
        new = AuthSet(str(uuid.uuid4()), device.id, device.identity, device.digest, pubkey, status, now)
        added = self.store.add_set(new)
        return new if added else self.store.set_by_key(device.digest, pubkey) or new

    def _write_set_status(self, auth_set: AuthSet, status: str) -> None:
        if status == ACCEPTED:
            self.store.reject_accepted_but(auth_set.device_id, auth_set.id)
        elif auth_set.status == ACCEPTED:
            self.store.delete_tokens(auth_set.device_id)
        self.store.set_set_status(auth_set.id, status)

    def _write_device_status(self, device: Device, status: str) -> None:
        if device.status != status:
            self.store.set_device_status(device.id, status, rfc3339(self.clock()))
            self.inventory.put_status(device.id, status)

    def _aggregate(self, device_id: str) -> str:
        return device_status(auth_set.status for auth_set in self.store.sets_of(device_id))

    def _check_limit(self, status: int) -> None:
        limit = self.switches.max_devices
        if limit is not None and self.store.count(ACCEPTED) + 1 > limit:
            # a device is not told why
            raise Refusal(status, "unauthorized" if status == 401 else "maximum number of accepted devices reached")

    def _check_in(self, device_id: str, previous: str | None) -> None:
        now = rfc3339(self.clock())
        self.store.set_check_in(device_id, now)
        if previous is None or previous[:10] != now[:10]:  # inventory learns it once a day
            self.inventory.put_check_in(device_id, now)
