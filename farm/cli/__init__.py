"""The command line: verbs for people over the same API that programs use."""
