"""Writes rules/slo.yaml: python -m ops.alerts"""

from ops.alerts.slo import FILE, page

if __name__ == "__main__":
    FILE.write_text(page())
