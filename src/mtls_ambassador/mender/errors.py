"""What Mender's management API can refuse us."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class UpstreamUnavailable(Error):
    """Mender cannot be reached, or did not answer in time."""


class UntrustedServer(Error):
    """Who answers at mender_backend cannot prove to be the Mender Server."""


class ManagementUnavailable(Error):
    """The management API cannot help now: down, slow, too busy, or it does not accept our credentials.

    Attributes:
        label: `unreachable`, `slow`, `busy`, `error`, `credentials_refused` or `two_factor`.
        retry_after: Seconds after which a new try makes sense.
    """

    def __init__(self, what: str, remedy: str = "", *, label: str, retry_after: float) -> None:
        super().__init__(what, remedy)
        self.label = label
        self.retry_after = retry_after


class RequestRefused(ManagementUnavailable):
    """Mender does not take what this call says (400, 413, 422); it would not take it later either."""


class ManagementForbidden(Error):
    """The management user's role does not allow this call (403)."""


class DeviceLimitReached(Error):
    """Mender accepts no more devices (422)."""


class StateChanged(Error):
    """The device or auth set is not (any more) what it was when we looked (400, 404)."""
