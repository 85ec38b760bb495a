"""Grafana dashboards, written in Python: `python -m ops.dashboards` makes `json/`, which the chart installs.

A board per file; `panels` and `queries` are what they are written with, `preview` draws them without Grafana.
"""
