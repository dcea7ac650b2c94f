"""ECSs: QEMU/KVM guests under libvirt, their seed, overlay, backing export and boot proof."""
