"""Reading finished and running studies."""
