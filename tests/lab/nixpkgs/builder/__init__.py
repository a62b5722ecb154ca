"""Builders of the stand-in nixpkgs: run inside Nix's sandbox by the userland's own Python, so nothing but stdlib."""
