"""Ready-made compositions of storage elements, one module a layout."""
