"""The JSON of the REST interface: what comes in is checked here, what goes out is described here."""
