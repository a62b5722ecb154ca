"""Facts, answers and plan become the host's configuration, purely."""
