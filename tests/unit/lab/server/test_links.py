"""Links are good for their path until they expire, and cannot be made without the key."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from mtls_ambassador.lab.server.links import check_link, expiry, sign_link
from mtls_ambassador.lab.server.refusals import Refusal

KEY, PATH, NOW = b"key", "/download/artifacts/1", 1_800_000_000.5


def _query(link: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(link).query))


def test_link_is_good_until_it_expires() -> None:
    link = sign_link(KEY, PATH, NOW + 60)
    assert urlsplit(link).path == PATH
    assert _query(link)["x-men-expire"] == expiry(NOW + 60) == "2027-01-15T08:01:00Z"
    check_link(KEY, PATH, _query(link), NOW + 59)
    with pytest.raises(Refusal, match="URL expired") as refused:
        check_link(KEY, PATH, _query(link), NOW + 61)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("key", "path", "change", "status"),
    [
        (b"other", PATH, {}, 403),
        (KEY, PATH + "2", {}, 403),
        (KEY, PATH, {"x-men-expire": expiry(NOW + 3600)}, 403),
        (KEY, PATH, {"x-men-signature": "x"}, 403),
        (KEY, PATH, {"x-men-signature": "ü"}, 403),
        (KEY, PATH, {"x-men-signature": ""}, 400),
        (KEY, PATH, {"x-men-expire": ""}, 400),
        (KEY, PATH, {"x-men-expire": "tomorrow"}, 400),
    ],
)
def test_changed_link_is_refused(key: bytes, path: str, change: dict[str, str], status: int) -> None:
    query = {**_query(sign_link(KEY, PATH, NOW + 60)), **change}
    with pytest.raises(Refusal) as refused:
        check_link(key, path, query, NOW)
    assert refused.value.status == status
