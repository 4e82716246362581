"""Measurements: the edge beside nginx, HAProxy and a bare Envoy, in one run on one machine (`make bench`)."""
