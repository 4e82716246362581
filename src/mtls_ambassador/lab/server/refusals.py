"""The one exception with which a service of the embedded Mender Server refuses a request."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class Refusal(Error):
    """Answered as `{"error": text, "request_id": …}` with `status`."""

    def __init__(self, status: int, text: str) -> None:
        """Take the HTTP `status` and the `text` that the Mender Server gives."""
        super().__init__(text)
        self.status = status
