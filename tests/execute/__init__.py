"""A place to install to on this machine: loop devices with names, a small system, a Nix; for the executor's tests."""
