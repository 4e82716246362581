"""A client of Mender's APIs, through the edge's one door to the upstream."""
