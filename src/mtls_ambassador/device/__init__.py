"""The device's side: its mender.conf, its disk image, and a device that is there already."""
