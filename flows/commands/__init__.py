"""What each `ims` command does, one module per noun: arguments in, plain values out. Printing is `flows.printing`."""
