"""The data plane: Envoy's configuration, rendered; Envoy's process, supervised; Envoy's logs, made readable."""
