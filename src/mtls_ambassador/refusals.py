"""The closed list of reasons why the edge refuses somebody: what the device is told, what the log says, what to do.

The reference page of refusal reasons is made from this list.
"""

from __future__ import annotations

from enum import Enum

from mtls_ambassador.refusal import Refusal, Stage


def _handshake(label: str, log: str, remedy: str) -> Refusal:
    return Refusal(label, Stage.HANDSHAKE, None, "", log, remedy)


_OWNERS_CA = "Sign the device's certificate with a CA whose certificate is in tenant_ca_pem, or add that CA there."


class RefusalReason(Enum):
    """Every reason there is. The value is its wording."""

    # TLS handshake
    NO_CERTIFICATE = _handshake(
        "no_certificate",
        "the client did not provide a certificate",
        "On a device: set HttpsClient.Certificate and .Key in mender.conf. From elsewhere: a scanner or a probe; "
        "probes belong on health_listen.",
    )
    EXPIRED = _handshake("expired", "the client's certificate has expired", "Issue the device a new certificate.")
    ISSUER_EXPIRED = _handshake(
        "issuer_expired", "a CA certificate above the client's has expired", "Renew that CA's certificate."
    )
    NOT_YET_VALID = _handshake(
        "not_yet_valid",
        "the client's certificate is not valid yet",
        "Check this machine's clock; else issue the certificate anew with an earlier start.",
    )
    ISSUER_NOT_YET_VALID = _handshake(
        "issuer_not_yet_valid",
        "a CA certificate above the client's is not valid yet",
        "Check this machine's clock; else issue that CA's certificate anew with an earlier start.",
    )
    UNKNOWN_CA = _handshake(
        "unknown_ca",
        "the client's certificate was not signed by a CA in tenant_ca_pem",
        f"{_OWNERS_CA} An intermediate CA must be there too, unless the device sends it.",
    )
    SELF_SIGNED = _handshake("self_signed", "the client's certificate is self-signed", _OWNERS_CA)
    BAD_SIGNATURE = _handshake(
        "bad_certificate_signature",
        "the client's certificate does not carry its issuer's signature",
        "Two CAs with one subject need key identifiers in their certificates. Otherwise somebody forges certificates.",
    )
    WRONG_PURPOSE = _handshake(
        "wrong_purpose",
        "the client's certificate is not for TLS clients",
        "Issue it with key usage digitalSignature and extended key usage clientAuth, or without both.",
    )
    REVOKED = _handshake(
        "revoked", "the client's certificate is revoked", "Nothing, if that is meant; else issue a new certificate."
    )
    CRITICAL_EXTENSION = _handshake(
        "critical_extension",
        "the client's certificate has a critical extension that TLS does not know",
        "Issue it without that extension, or not critical.",
    )
    UNSUPPORTED_CERTIFICATE_KEY = _handshake(
        "unsupported_certificate_key",
        "the key type of the client's certificate or of its CA cannot be used",
        "Use RSA, P-256, P-384, P-521 or Ed25519.",
    )
    SERVER_NOT_TRUSTED = _handshake(
        "server_not_trusted",
        "the device does not trust our server certificate",
        "Put the CA of server_cert on the device (ServerCertificate in mender.conf, or its system's trust store).",
    )
    PROTOCOL_VERSION = _handshake(
        "protocol_version",
        "the client offers only TLS versions older than tls_min_version",
        "Update the device's TLS library, or lower tls_min_version to 1.2.",
    )
    NO_COMMON_CIPHER = _handshake(
        "no_common_cipher", "the client and the edge share no cipher or curve", "Update the device's TLS library."
    )
    PLAIN_HTTP = _handshake(
        "plain_http", "the client speaks plain HTTP to the TLS port", "Use https:// in the client's URL."
    )
    NOT_TLS = _handshake("not_tls", "the client does not speak TLS", "Nothing: a scanner, or a wrong port.")
    HANDSHAKE_TIMEOUT = _handshake(
        "handshake_timeout",
        "the handshake took longer than handshake_timeout",
        "Raise handshake_timeout if devices with slow secure elements are meant to connect.",
    )
    NOT_READY = _handshake(
        "not_ready", "the edge has no valid certificate to show", "See the errors above it in the log."
    )
    CLIENT_LEFT = _handshake(
        "client_left", "the client closed the connection during the handshake", "Nothing, unless it is every time."
    )
    HANDSHAKE_FAILED = _handshake("handshake_failed", "TLS failed", "See `detail` on the log line.")

    # Envoy, before anything goes further
    SERVER_CERTIFICATE = Refusal(
        "server_certificate",
        Stage.REQUEST,
        403,
        "this certificate is not a device's",
        "the client's certificate is a server certificate of this edge",
        "Give the device a certificate of its own. If no device of yours did this, the server's private key is stolen.",
    )
    CA_CERTIFICATE = Refusal(
        "ca_certificate",
        Stage.REQUEST,
        403,
        "this certificate is not a device's",
        "the client's certificate is a CA's own",
        "Give the device a certificate of its own. If no device of yours did this, the CA's private key is stolen.",
    )
    PATH_NOT_ALLOWED = Refusal(
        "path_not_allowed",
        Stage.REQUEST,
        404,
        "not found",
        "the path is not under allowed_paths, or belongs to Mender's authentication API",
        "Nothing, unless a device needs it: then add it to allowed_paths.",
    )
    BODY_TOO_LARGE = Refusal(
        "body_too_large",
        Stage.REQUEST,
        413,
        "request body too large",
        "the auth request is larger than 64 KiB",
        "A real one has about 1 kB: find out what the client is.",
    )

    TOKEN_REFUSED = Refusal(
        "token_refused",
        Stage.REQUEST,
        401,
        "the device token is not valid",
        "bind_tokens is on, and the request bears no token that this edge has handed out and that has not expired",
        "Nothing: the device authenticates anew by itself. If it is at each request, this machine's clock is "
        "far ahead.",
    )
    TOKEN_OF_UNKNOWN_KEY = Refusal(
        "token_of_unknown_key",
        Stage.REQUEST,
        401,
        "the device token is not valid",
        "the device token says that it is this edge's, but none of its keys has signed it",
        "Nothing, if the key has just been replaced or lost: the device authenticates anew by itself. If it is at each "
        "request, edges behind one name have different keys: give them one token_key. Else somebody forges tokens.",
    )
    TOKEN_OF_ANOTHER_CERTIFICATE = Refusal(
        "token_of_another_certificate",
        Stage.REQUEST,
        401,
        "the device token is not valid",
        "the device token was handed out to another certificate",
        "Nothing, if the device has just got a new certificate: it authenticates anew by itself. "
        "Else a token was copied from one device to another.",
    )

    # The admission service, before Mender hears of it
    MALFORMED = Refusal(
        "malformed_request",
        Stage.AUTH_REQUEST,
        400,
        "malformed auth request",
        "the auth request is not in its form",
        "See `detail`. Real clients never do this: find out what the client is.",
    )
    UNSUPPORTED_MEDIA_TYPE = Refusal(
        "unsupported_media_type",
        Stage.AUTH_REQUEST,
        415,
        "Content-Type must be application/json",
        "the auth request is not announced as JSON",
        "Real clients never do this: find out what the client is.",
    )
    MISSING_SIGNATURE = Refusal(
        "missing_signature",
        Stage.AUTH_REQUEST,
        400,
        "missing request signature header",
        "the auth request has no X-MEN-Signature",
        "Real clients never do this: find out what the client is.",
    )
    BAD_REQUEST_SIGNATURE = Refusal(
        "bad_signature",
        Stage.AUTH_REQUEST,
        401,
        "signature verification failed",
        "the signature of the auth request does not verify with the key in it",
        "Something between device and edge changes the body, or the device does not hold the key it names.",
    )
    KEY_MISMATCH = Refusal(
        "key_mismatch",
        Stage.AUTH_REQUEST,
        401,
        "the key is not the certificate's",
        "the key in the auth request is not the key of the client's certificate",
        "Set Security.AuthPrivateKey in mender.conf to the file in HttpsClient.Key (C++ clients need that), "
        "or set require_same_key to false here.",
    )
    UNSUPPORTED_KEY = Refusal(
        "unsupported_key",
        Stage.AUTH_REQUEST,
        400,
        "unrecognized public key type",
        "the key in the auth request is none that Mender takes",
        "Use RSA, ECDSA or Ed25519.",
    )
    CERTIFICATE_UNREADABLE = Refusal(
        "certificate_unreadable",
        Stage.AUTH_REQUEST,
        403,
        "this certificate cannot be used",
        "the client's certificate passed TLS, but cannot be parsed",
        "Issue it anew: its encoding breaks RFC 5280, or it holds an extension that cannot be read.",
    )
    CERTIFICATE_EXPIRED = Refusal(
        "certificate_expired",
        Stage.AUTH_REQUEST,
        403,
        "this certificate has expired",
        "the client's certificate expired while its connection was open",
        "Issue the device a new certificate.",
    )
    CERTIFICATE_HAS_ANOTHER_IDENTITY = Refusal(
        "certificate_has_another_identity",
        Stage.AUTH_REQUEST,
        401,
        "this certificate belongs to another identity",
        "the client's certificate, or one with its key, was admitted with another identity",
        "A certificate is for one device. If the device's identity has changed (a new network card), let the ledger "
        "forget the certificate: `mtls-ambassador devices forget SERIAL`. If devices are meant to share it, see "
        "identities_per_certificate. Else a device claims to be another.",
    )
    IDENTITY_MISMATCH = Refusal(
        "identity_mismatch",
        Stage.AUTH_REQUEST,
        401,
        "the certificate does not belong to this identity",
        "the client's certificate does not match the identity in the auth request",
        "See `detail` for what the rule expected. If the device is right, mend the rules in binding, or issue it a "
        "certificate that fits. Else it claims to be another device.",
    )
    ANCHOR_UNKNOWN = Refusal(
        "anchor_unknown",
        Stage.AUTH_REQUEST,
        403,
        "this certificate cannot be used",
        "the client's certificate verifies, but not which trust anchor it belongs to",
        "Put the intermediate CA that signed the certificate into the `ca` file of its trust anchor.",
    )
    RATE_LIMITED = Refusal(
        "rate_limited",
        Stage.AUTH_REQUEST,
        429,
        "too many auth requests, try again later",
        "this certificate or address sends more auth requests than auth_rate_per_certificate or auth_rate_per_address "
        "allows",
        "Find out what the client is. Raise the limit if devices share the certificate or address.",
    )
    BUSY = Refusal(
        "busy",
        Stage.AUTH_REQUEST,
        429,
        "too many auth requests, try again later",
        "this certificate sends more auth requests than a device does, or too many wait for this identity",
        "Nothing, unless it goes on: then somebody hammers the edge with this certificate.",
    )

    # Mender was asked
    REJECTED_BY_OPERATOR = Refusal(
        "rejected_by_operator",
        Stage.ADMISSION,
        401,
        "the device was rejected",
        "an operator rejected this device in Mender; the edge never overrides that",
        "Nothing, if that is meant; else accept the device in Mender.",
    )
    KEY_CHANGE_NEEDS_APPROVAL = Refusal(
        "key_change_needs_approval",
        Stage.ADMISSION,
        401,
        "the device's new key awaits approval",
        "Mender knows this identity with another key; the new one is left pending",
        "If the device was re-flashed or its key replaced, accept the pending key in Mender. "
        "Else somebody claims another device's identity.",
    )
    IDENTITY_CONTESTED = Refusal(
        "identity_contested",
        Stage.ADMISSION,
        401,
        "several devices claim this identity",
        "several keys claim this identity by turns; who has it keeps it",
        "`mtls-ambassador devices explain IDENTITY` names the certificates. Find out which device has which, and "
        "revoke the one that should not be there. After ten quiet minutes new keys are judged as usual.",
    )
    WRONG_TENANT = Refusal(
        "wrong_tenant",
        Stage.ADMISSION,
        401,
        "the device belongs to another tenant",
        "the device's tenant token is of another tenant than the management user",
        "Put your own tenant token into TenantToken of mender.conf, or give the trust anchor a user of that tenant. "
        "Else somebody tries to make the edge believe what his own tenant says.",
    )
    KEY_SUPERSEDED = Refusal(
        "key_superseded",
        Stage.ADMISSION,
        401,
        "this key was replaced by another",
        "Mender accepts another key for this identity and has rejected this one",
        "Find out which device holds which key; accept the right one in Mender.",
    )
    DECOMMISSIONING = Refusal(
        "decommissioning",
        Stage.ADMISSION,
        None,
        "",
        "Mender is removing this device",
        "Wait: when Mender is done, the device is admitted as a new one. To keep it out, revoke its certificate.",
    )
    DEVICE_LIMIT = Refusal(
        "device_limit",
        Stage.ADMISSION,
        None,
        "",
        "Mender's limit of accepted devices is reached",
        "Raise the limit in Mender, or remove devices. If there is room, the device's tenant token is wrong.",
    )
    MENDER_REFUSED = Refusal(
        "mender_refused",
        Stage.ADMISSION,
        None,
        "",
        "Mender refuses the device, though its key is not rejected",
        "Likeliest: a wrong tenant token on the device, the device limit, or a decommission in progress.",
    )
    MANAGEMENT_ROLE_TOO_NARROW = Refusal(
        "management_role_too_narrow",
        Stage.ADMISSION,
        None,
        "",
        "Mender refuses the device, and the management user may not do or read what would tell why",
        "Give the management user a role that may read and manage devices.",
    )
    MANAGEMENT_UNAVAILABLE = Refusal(
        "management_unavailable",
        Stage.ADMISSION,
        503,
        "admission is not possible now, try again later",
        "Mender does not accept the device yet, and its management API cannot be asked",
        "See `detail`: credentials, network, or Mender's state. The device tries again by itself.",
    )
    LEDGER_UNAVAILABLE = Refusal(
        "ledger_unavailable",
        Stage.ADMISSION,
        503,
        "admission is not possible now, try again later",
        "Mender does not accept the device yet, and the ledger cannot say whose the identity is",
        "See the ledger's own lines in the log: disk, database or network. The device tries again by itself.",
    )
    UPSTREAM_UNAVAILABLE = Refusal(
        "upstream_unavailable",
        Stage.ADMISSION,
        503,
        "the Mender Server cannot be reached, try again later",
        "the Mender Server cannot be reached",
        "Check mender_backend, mender_ca and the network. The device tries again by itself.",
    )

    TOKEN_NOT_BINDABLE = Refusal(
        "token_not_bindable",
        Stage.ADMISSION,
        502,
        "the Mender Server's answer cannot be used",
        "bind_tokens is on, and what Mender gave as the device's token cannot be bound to a certificate",
        "See `detail`. Something between edge and Mender changes answers, or bind_tokens must be turned off.",
    )

    @property
    def label(self) -> str:
        """Its name in logs and metrics."""
        return self.value.label
