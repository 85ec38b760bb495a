"""One service a file, each with ``run_once``; `loop` owns tick, back-off and stop."""
