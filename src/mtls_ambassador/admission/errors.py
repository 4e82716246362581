"""The refusal of an auth request, as an exception."""

from __future__ import annotations

from mtls_ambassador.errors import Error
from mtls_ambassador.refusals import RefusalReason


class Refused(Error):
    """This auth request is not admitted.

    Attributes:
        reason: Out of the closed list.
        detail: More for the log; the device never hears it, and it holds no secret.
        rule: The setting, binding rule or operator's word that decided; None where no choice of the owner's did.
        retry_after: Seconds, where trying again makes sense.
    """

    def __init__(
        self, reason: RefusalReason, detail: str = "", *, rule: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{reason.value.log}{f' ({detail})' if detail else ''}", reason.value.remedy)
        self.reason = reason
        self.detail = detail
        self.rule = rule
        self.retry_after = retry_after
