"""Where an external file comes from: a path, an inbox object, a URL. Each becomes a local file; nothing is parsed here."""
