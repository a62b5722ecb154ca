"""Tests that boot machines in the lab; `make test-vm`."""
