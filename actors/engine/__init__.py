"""The engine: the only place where torch and diffusers are imported. Import its modules one by one."""
