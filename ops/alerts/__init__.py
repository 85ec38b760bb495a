"""Alerts: rule files for Prometheus, and the module that writes those of the service levels."""
