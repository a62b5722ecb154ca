"""Evaluates Nix: our rendered text with Nix alone, whole hosts with a real nixpkgs. Nothing is built or fetched."""
