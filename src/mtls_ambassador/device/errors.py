"""What may be wrong on the device's side."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class ConfigurationFileError(Error):
    """A `mender.conf` that cannot be read or kept."""

    exit_status = 2


class WantedError(Error):
    """A device was to get what cannot work: a URL past the edge, a key without its engine, ..."""

    exit_status = 2


class MaterialError(Error):
    """A certificate or key for a device that is missing, unreadable, or not what it should be."""

    exit_status = 2


class ManifestError(Error):
    """A manifest, or rows of it, that cannot be used."""

    exit_status = 2


class ImageError(Error):
    """An image could not be prepared; the one that was there is as it was."""


class PushError(Error):
    """A step on the device failed."""
