"""What a row says of a device otherwise than when that got its certificate. Reads the device's request, else pure."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from mtls_ambassador.factory.items import Item
from mtls_ambassador.factory.orders import Order
from mtls_ambassador.pki import profiles, request
from mtls_ambassador.pki.entries import Entry
from mtls_ambassador.x509 import spki


def is_judged_by_certificate(order: Order) -> bool:
    """Whether more than its common name can have changed, so that `difference` needs the index's entry."""
    return order.request is not None or bool(order.san)


def difference(order: Order, item: Item, entry: Entry | None) -> str | None:
    """What of an order its certificate does not have, for people; None: it is what was ordered.

    Args:
        order: The row, as it is now. What all of a batch share, such as the organization, cannot have changed.
        item: The device, as it was issued.
        entry: Its certificate, if `is_judged_by_certificate`.

    Raises:
        RequestError: the request cannot be signed.
        ProfileError: a name is none.
    """
    if order.cn is not None and order.cn != item.cn:
        return f"the common name {item.cn}, not {order.cn}"
    if entry is None:
        return None
    certificate = x509.load_der_x509_certificate(entry.der)
    if order.request is not None:
        asked = request.load_request(order.request)
        if spki(asked.public_key) != item.spki:
            return "another key than its request has now"
        if order.cn is None:
            subject = request.require_subject(asked, order.request.name).rfc4514_string()
            if subject != entry.subject:
                return f"the subject {entry.subject}, not {subject}"
    names, asked_for = set(profiles.names(certificate)), [profiles.general_name(each) for each in order.san]
    # The common name may stand beside them, see `profiles.device`.
    own = {x509.DNSName(item.cn)} if profiles.is_host_name(item.cn) else set()
    if names - own != set(asked_for) - own:
        return f"the names {_texts(profiles.names(certificate))}, not {_texts(asked_for)}"
    return None


def _texts(names: Iterable[x509.GeneralName]) -> str:
    return ", ".join(str(name.value) for name in names) or "none"
