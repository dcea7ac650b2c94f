"""What is on a disk: partition sniffing by our own bounded reads, operating system facts by libguestfs."""
