"""What the `ims` command takes. What its commands do is `flows.commands`, how they are run `flows.cli`."""
