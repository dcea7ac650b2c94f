"""Disk image files: the header gate, the caged QEMU, our ZVHD codecs. Guests that run disks are in `tasks.engine.guests`."""
