"""Everything that can stand on a disk: one module a kind, all with the same few questions to answer."""
