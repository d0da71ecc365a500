"""Images: the inventory's hosts as bootable machines, made, sealed and tried."""
