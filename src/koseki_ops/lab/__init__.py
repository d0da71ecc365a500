"""Six real hosts on this machine: namespaces, systemd, a layer of disk each; virtual ones, too."""
