"""From bare metal to an installed virtualization host: probe, facts, answers, plan, render, execute."""

VERSION = "0.1.0"
