"""A running NixOS becomes a Hyper-NixOS host, in place: look, decide, change one line, build, try, or go back."""
