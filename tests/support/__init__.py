"""What tests share: real parts, started once per session."""
