"""Our own programs, run many times without a new interpreter for each."""
