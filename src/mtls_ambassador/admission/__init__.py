"""Who may be which device: auth requests are parsed, verified, decided upon and forwarded."""
