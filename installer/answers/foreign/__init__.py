"""Other installers' files read as answers, as far as they map; what does not is told, all of it."""
