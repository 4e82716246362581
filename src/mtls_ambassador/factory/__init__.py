"""Certificates for a factory's batch of devices: many at a time, over all cores, resumed where it stopped."""
