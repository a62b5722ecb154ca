"""Later changes of a host: its declaration is changed, shown, built, tried and kept, or taken back."""
