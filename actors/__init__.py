"""The data plane: what runs beside a GPU."""
