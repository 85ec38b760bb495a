"""Every Ray call that farm makes. `simulated` is the twin: renderers as plain objects in this process."""
